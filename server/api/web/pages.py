"""`/docs` for people, `/openapi.json` for programs (`make openapi`): nothing from a CDN."""

from importlib import resources

from aiohttp import web

_FOLDER = resources.files("server.api.web")
# The page is one file with its own style and script, and may talk to this server only.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src blob:; base-uri 'none'; frame-ancestors 'none'"
)


class Pages:
    def __init__(self) -> None:
        self._page = _FOLDER.joinpath("docs.html").read_text()
        self._document = _FOLDER.joinpath("openapi.json").read_text()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.home),
            web.get("/docs", self.page),
            web.get("/openapi.json", self.openapi),
        ]

    async def home(self, request: web.Request) -> web.Response:
        """To the page."""
        raise web.HTTPFound("/docs")

    async def page(self, request: web.Request) -> web.Response:
        """A page to try the server, and to read this."""
        headers = {"content-security-policy": _POLICY, "x-content-type-options": "nosniff"}
        return web.Response(text=self._page, content_type="text/html", headers=headers)

    async def openapi(self, request: web.Request) -> web.Response:
        """This document."""
        return web.Response(text=self._document, content_type="application/json")
