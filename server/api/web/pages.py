"""`/docs` for people, `/openapi.json` for programs: made here, nothing from a CDN."""

import json
from collections.abc import Iterable
from functools import cached_property
from importlib import resources

from aiohttp import web

from server.api.web.openapi import document

# The page is one file with its own style and script, and may talk to this server only.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src blob:; base-uri 'none'; frame-ancestors 'none'"
)


class Pages:
    def __init__(self, others: Iterable[web.RouteDef]):
        """`others` are described beside these."""
        self._described = [*others, *self.routes()]
        self._page = resources.files("server.api.web").joinpath("docs.html").read_text()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.home),
            web.get("/docs", self.page),
            web.get("/openapi.json", self.openapi),
        ]

    @cached_property
    def _document(self) -> str:
        return json.dumps(document(self._described))

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
