"""For those who run the server: `/metrics`, `/livez`, `/readyz`."""

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from server.service import DataPlane


class Ops:
    def __init__(self, plane: DataPlane, registry: CollectorRegistry):
        self._plane, self._registry = plane, registry

    def probes(self) -> list[web.RouteDef]:
        return [web.get("/livez", self.live), web.get("/readyz", self.ready)]

    def routes(self) -> list[web.RouteDef]:
        return [*self.probes(), web.get("/metrics", self.metrics)]

    async def live(self, request: web.Request) -> web.Response:
        """200 as long as the process answers at all, through the drain too."""
        return web.json_response({"live": True})

    async def ready(self, request: web.Request) -> web.Response:
        ready = self._plane.ready
        body = {"ready": ready, "state": self._plane.state.value}
        return web.json_response(body, status=200 if ready else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return web.Response(body=encode(self._registry), headers={"content-type": content_type})
