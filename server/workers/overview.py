"""What the supervisor tells of all workers: `/metrics`, `/livez`, `/readyz`."""

from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics

from server.api.http import Listener, application
from server.telemetry.metrics import expose
from server.workers.peers import gather
from server.workers.totals import Totals


class Overview:
    def __init__(self, folder: Path, host: str, port: int):
        self._folder, self._host = folder, host
        disable_created_metrics()  # type: ignore[no-untyped-call] # as in telemetry/metrics.py
        self._registry, self._totals = CollectorRegistry(auto_describe=False), Totals()
        self._registry.register(self._totals)
        self._workers = Gauge("alexnet_workers", "Processes that answer.", registry=self._registry)
        self._ended = Counter(
            "alexnet_workers_ended", "Processes that ended by themselves and were replaced.",
            registry=self._registry,
        )  # fmt: skip
        routes = [
            web.get("/metrics", self.metrics),
            web.get("/livez", self.live),
            web.get("/readyz", self.ready),
        ]
        self._listener = Listener(application(routes), port)

    @property
    def port(self) -> int:
        return self._listener.port

    async def start(self) -> None:
        """Raises OSError when the port is taken."""
        await self._listener.start(self._host)

    async def stop(self) -> None:
        await self._listener.stop()

    def ended(self, worker: int) -> None:
        """To be called when a worker has ended by itself."""
        self._ended.inc()
        self._totals.ended(worker)

    async def live(self, request: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def ready(self, request: web.Request) -> web.Response:
        """While any worker is: a connection goes to one that listens."""
        ready = len(await gather(self._folder, "/readyz"))
        return web.json_response(
            {"ready": ready > 0, "workers": ready}, status=200 if ready else 503
        )

    async def metrics(self, request: web.Request) -> web.Response:
        asked = self._totals.ask()
        exposed = dict(await gather(self._folder, "/metrics"))
        self._totals.tell(exposed, asked)
        self._workers.set(len(exposed))
        body, headers = expose(self._registry, request.headers.get("accept", ""))
        return web.Response(body=body, headers=headers)
