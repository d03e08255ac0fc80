"""The pages for people: static files of our own and of a vendored viewer, nothing from elsewhere.

They name everything by relative addresses, so that they work under any path of a proxy.
"""

import gzip
import hashlib
import re
from functools import cached_property
from importlib import resources

from aiohttp import hdrs, web

from server.errors import NotFound

_FOLDER = resources.files("server.api.web")
_TYPES = {
    "css": "text/css",
    "html": "text/html",
    "jpg": "image/jpeg",
    "js": "text/javascript",
    "json": "application/json",
    "svg": "image/svg+xml",
}
_VIEWER = ("swagger-ui.css", "swagger-ui-bundle.js")
_ASSETS = {
    **{file.name: f"static/{file.name}" for file in _FOLDER.joinpath("static").iterdir()},
    **{name: f"vendor/swagger-ui/{name}" for name in _VIEWER},
}
# blob: are the photos of the visitor, which stay in the browser; data: are the icons of Swagger UI.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Asset:
    """A file of the package, read when it is first asked for."""

    def __init__(self, path: str, **values: str):
        self._path, self._values = path, values
        self.content_type = _TYPES[path.rpartition(".")[2]]

    @cached_property
    def body(self) -> bytes:
        body = _FOLDER.joinpath(self._path).read_bytes()
        for name, value in self._values.items():
            body = body.replace(f"{{{name}}}".encode(), value.encode())
        return body

    @cached_property
    def packed(self) -> bytes:
        return gzip.compress(self.body, mtime=0)

    @cached_property
    def tag(self) -> str:
        return hashlib.sha256(self.body).hexdigest()[:16]

    def reply(self, request: web.Request) -> web.Response:
        """A browser asks each time whether it has the newest, which costs no transfer."""
        reply = web.Response(content_type=self.content_type)
        reply.headers[hdrs.CACHE_CONTROL] = "no-cache"
        reply.etag = self.tag
        if self.content_type == "text/html":
            reply.headers["content-security-policy"] = POLICY
        if any(known.value in (self.tag, "*") for known in request.if_none_match or ()):
            reply.set_status(304)
            return reply
        reply.headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
        squeezed = not self.content_type.startswith("image/jpeg")
        if squeezed and _GZIP.search(request.headers.get(hdrs.ACCEPT_ENCODING, "")):
            reply.headers[hdrs.CONTENT_ENCODING] = "gzip"
            reply.body = self.packed
        else:
            reply.body = self.body
        return reply


_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))", re.IGNORECASE)
"""In Accept-Encoding, and not refused by a weight of 0 (RFC 9110, section 12.5.3)."""


class Pages:
    def __init__(self, max_bytes: int):
        """`max_bytes` is the largest upload: the page says so before it sends more."""
        self._home = Asset("static/index.html", max_bytes=str(max_bytes))
        self._model = Asset("static/model.html")
        self._docs = Asset("static/docs.html")
        self._document = Asset("openapi.json")
        self._assets = {name: Asset(path) for name, path in _ASSETS.items()}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.home),
            web.get("/model", self.model),
            web.get("/docs", self.docs),
            web.get("/web/{asset}", self.asset),
            web.get("/openapi.json", self.openapi),
        ]

    async def home(self, request: web.Request) -> web.Response:
        """A page to drop photos on."""
        return self._home.reply(request)

    async def model(self, request: web.Request) -> web.Response:
        """A page to look into the network, and at how the server is doing."""
        return self._model.reply(request)

    async def docs(self, request: web.Request) -> web.Response:
        """A page to read this."""
        return self._docs.reply(request)

    async def asset(self, request: web.Request) -> web.Response:
        """What the pages are made of."""
        asset = self._assets.get(request.match_info["asset"])
        if not asset:
            raise NotFound("the pages have no such part")
        return asset.reply(request)

    async def openapi(self, request: web.Request) -> web.Response:
        """This document."""
        return self._document.reply(request)
