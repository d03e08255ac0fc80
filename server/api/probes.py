"""For operators: `/metrics`, `/livez`, `/readyz`."""

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from server.service import Service, State
from server.telemetry.metrics import OPENMETRICS, expose

STATES = (*(state.value for state in State), "unloaded", "engine")
"""The service's, and why one that serves is not ready: it has no version, or an engine fails."""


class Probes:
    def __init__(self, service: Service):
        self._service = service

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/livez", self.live), web.get("/readyz", self.ready)]

    async def live(self, request: web.Request) -> web.Response:
        """200 as long as the process answers at all, through the drain too."""
        return web.json_response({"live": True})

    async def ready(self, request: web.Request) -> web.Response:
        """Whether traffic should be sent here: 503 while it drains, has no version, or an engine
        fails."""
        ready, state = self._service.ready, self._service.state
        why = state.value
        if state is State.SERVING and not ready:
            why = "engine" if self._service.repository.served else "unloaded"
        body = {"ready": ready, "state": why}
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
