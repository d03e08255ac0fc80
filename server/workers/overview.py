"""What the supervisor tells of all workers: `/metrics`, `/livez`, `/readyz`."""

import asyncio
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics

from server.api.http import application
from server.api.listener import Listener
from server.door import Door
from server.telemetry.metrics import OPENMETRICS, expose, watch_certificate
from server.workers.heard import Heard
from server.workers.totals import READY, Totals


class Overview:
    def __init__(self, folder: Path, host: str, port: int, door: Door):
        self._host = host
        disable_created_metrics()  # type: ignore[no-untyped-call] # as in telemetry/metrics.py
        self._registry, self._totals = CollectorRegistry(auto_describe=False), Totals()
        self._registry.register(self._totals)

        def tell(worker: int, text: str, asked: int) -> None:
            self._totals.tell({worker: text}, asked)

        self._exposed = Heard(folder, "/metrics", tell, self._totals.ask, OPENMETRICS)
        self._ready = Heard(folder, "/readyz")
        self._served = Gauge(
            READY, "1 while the readiness probe says yes.", registry=self._registry
        )
        if door.certificates:
            watch_certificate(self._registry, door.certificates.days_left)
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
        self._listener = Listener(
            application(routes, door=door.without_keys()), port, certificates=door.certificates
        )

    @property
    def port(self) -> int:
        return self._listener.port

    async def start(self) -> None:
        """Raises OSError when the port is taken."""
        await self._listener.start(self._host)

    async def stop(self) -> None:
        await self._listener.stop()
        self._exposed.close()
        self._ready.close()

    def ended(self, worker: int) -> None:
        """To be called when a worker has ended by itself."""
        self._ended.inc()
        self._totals.ended(worker)

    async def live(self, request: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def ready(self, request: web.Request) -> web.Response:
        """While any worker is: a connection goes to one that listens."""
        ready = len(await self._ready.ask())
        return web.json_response(
            {"ready": ready > 0, "workers": ready}, status=200 if ready else 503
        )

    async def metrics(self, request: web.Request) -> web.Response:
        exposed, ready = await asyncio.gather(self._exposed.ask(), self._ready.ask())
        self._workers.set(len(exposed))
        self._served.set(bool(ready))
        body, headers = expose(self._registry, request.headers.get("accept", ""))
        return web.Response(body=body, headers=headers)
