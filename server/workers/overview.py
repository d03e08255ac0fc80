"""What the supervisor tells of all workers: `/metrics`, `/livez`, `/readyz`."""

from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from server.api.classify_http import errors
from server.api.listener import Listener
from server.workers.peers import gathered
from server.workers.totals import Totals


class Overview:
    def __init__(self, folder: Path, host: str, port: int):
        self._folder, self._host = folder, host
        disable_created_metrics()  # type: ignore[no-untyped-call] # as in server/telemetry/metrics.py
        self._registry, self._totals = CollectorRegistry(auto_describe=False), Totals()
        self._registry.register(self._totals)
        self._workers = Gauge("alexnet_workers", "Processes that answer.", registry=self._registry)
        self._ended = Counter(
            "alexnet_workers_ended", "Processes that ended by themselves and were replaced.",
            registry=self._registry,
        )  # fmt: skip
        application = web.Application(middlewares=[errors])
        application.add_routes(
            [
                web.get("/metrics", self.metrics),
                web.get("/livez", self.live),
                web.get("/readyz", self.ready),
            ]
        )
        self._listener = Listener(application, port)

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
        """While any worker is: whoever connects gets one that listens."""
        ready = len(await gathered(self._folder, "/readyz"))
        return web.json_response(
            {"ready": ready > 0, "workers": ready}, status=200 if ready else 503
        )

    async def metrics(self, request: web.Request) -> web.Response:
        asked = self._totals.ask()
        exposed = dict(await gathered(self._folder, "/metrics"))
        self._totals.tell(exposed, asked)
        self._workers.set(len(exposed))
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return web.Response(body=encode(self._registry), headers={"content-type": content_type})
