"""For operators: `/metrics`, `/livez`, `/readyz`."""

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from server.service import Service
from server.telemetry.metrics import OPENMETRICS, expose


class Probes:
    def __init__(self, service: Service):
        self._service = service

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/livez", self.live), web.get("/readyz", self.ready)]

    async def live(self, request: web.Request) -> web.Response:
        """200 as long as the process answers at all, through the drain too."""
        return web.json_response({"live": True})

    async def ready(self, request: web.Request) -> web.Response:
        """Whether traffic should be sent here: 503 while it drains, or an engine fails."""
        ready = self._service.ready
        body = {"ready": ready, "state": self._service.state.value}
        return web.json_response(body, status=200 if ready else 503)


def scrape(registry: CollectorRegistry, plain: bool = False) -> web.RouteDef:
    """`/metrics` for Prometheus, or, `plain`, for the process that adds up several workers and
    wants Triton's counters as they are here."""

    async def metrics(request: web.Request) -> web.Response:
        accept = request.headers.get("accept", "")
        if plain and accept != OPENMETRICS:
            return web.Response(body=generate_latest(registry))
        body, headers = expose(registry, accept)
        return web.Response(body=body, headers=headers)

    return web.get("/metrics", metrics)
