"""`/docs` for people, `/openapi.json` for programs: files beside this one, nothing from a CDN."""

import json
from importlib import resources

from aiohttp import web

from alexnet import __version__

_FOLDER = resources.files("server.api.web")
# The page is one file with its own style and script, and may talk to this server only.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src blob:; base-uri 'none'; frame-ancestors 'none'"
)


class Pages:
    def __init__(self) -> None:
        document = json.loads(_FOLDER.joinpath("openapi.json").read_text())
        document["info"]["version"] = __version__
        self._openapi = json.dumps(document)
        self._page = _FOLDER.joinpath("docs.html").read_text()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.home),
            web.get("/docs", self.page),
            web.get("/openapi.json", self.openapi),
        ]

    async def home(self, request: web.Request) -> web.Response:
        raise web.HTTPFound("/docs")

    async def page(self, request: web.Request) -> web.Response:
        headers = {"content-security-policy": _POLICY, "x-content-type-options": "nosniff"}
        return web.Response(text=self._page, content_type="text/html", headers=headers)

    async def openapi(self, request: web.Request) -> web.Response:
        return web.Response(text=self._openapi, content_type="application/json")
