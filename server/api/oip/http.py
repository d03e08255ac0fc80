"""The Open Inference Protocol over HTTP, with Triton's extensions: `/v2`."""

from typing import Any

from aiohttp import web

from server.api import bodies, requests
from server.api.bodies import SHORT_BYTES
from server.api.oip import json, metadata
from server.api.oip.control import RepositoryControl
from server.api.oip.models import signature_of
from server.errors import BadRequest
from server.service import Service

HEADER_LENGTH = "Inference-Header-Content-Length"
# JSON of so many bytes, of some four photos. Most clients accept gzip without having asked for it,
# and a small answer takes longer to compress than to send.
COMPRESSED_BYTES = 1 << 16


class OipHttp:
    def __init__(self, service: Service, control: RepositoryControl):
        self._service, self._control, self._models = service, control, control.models

    def routes(self) -> list[web.RouteDef]:
        gets = {
            "/v2": self.server,
            "/v2/health/live": self.live,
            "/v2/health/ready": self.ready,
            "/v2/models/stats": self.statistics,
        }
        posts = {
            "/v2/repository/index": self.index,
            "/v2/repository/models/{model}/load": self.load,
            "/v2/repository/models/{model}/unload": self.unload,
        }
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            gets[model] = self.metadata
            gets[f"{model}/ready"] = self.model_ready
            gets[f"{model}/config"] = self.config
            gets[f"{model}/stats"] = self.statistics
            posts[f"{model}/infer"] = self.infer
        return [
            *(web.get(path, handler) for path, handler in gets.items()),
            *(web.post(path, handler) for path, handler in posts.items()),
        ]

    async def server(self, request: web.Request) -> web.Response:
        """The server's name, version and extensions."""
        return web.json_response(metadata.server(self._control.extensions))

    async def live(self, request: web.Request) -> web.Response:
        """200 as long as the process answers at all."""
        return web.json_response({"live": True})

    async def ready(self, request: web.Request) -> web.Response:
        """Whether requests should be sent here: 503 if not."""
        ready = self._service.ready
        return web.json_response({"ready": ready}, status=200 if ready else 503)

    async def model_ready(self, request: web.Request) -> web.Response:
        """Whether the model is served and the server ready: 503 if not."""
        name, version = _model(request)
        ready = self._models.ready(name, version)
        return web.json_response({"name": name, "ready": ready}, status=200 if ready else 503)

    async def metadata(self, request: web.Request) -> web.Response:
        """What the model takes and gives: the batch is -1."""
        return web.json_response(metadata.metadata(self._models, *_model(request)))

    async def config(self, request: web.Request) -> web.Response:
        """Triton's model configuration, as far as it has a meaning here."""
        return web.json_response(metadata.config(self._models, *_model(request)))

    async def statistics(self, request: web.Request) -> web.Response:
        """Counts and times since the start, with the meanings of Triton's statistics."""
        return web.json_response(
            metadata.statistics(
                self._models, *_model(request), await self._control.control.counts()
            )
        )

    async def infer(self, request: web.Request) -> web.Response:
        """Classifies photos, or crops that are ready for the network.

        The elements of a tensor are in the JSON, or in bytes after it; probabilities are answered,
        or as many classes as an output's parameter `classification` asks for.
        """
        service, (name, version) = self._service, _model(request)
        self._models.check(name)
        with requests.admit(
            request, service, "oip-rest", version, name, deadline_in_body=True
        ) as admitted:
            header_length = _header_length(request)
            body = await admitted.receive(bodies.read(request, admitted))
            if header_length == 0:  # no JSON at all
                asked = json.raw(signature_of(admitted.version, name).described(body))
            elif (header_length or len(body)) <= SHORT_BYTES:
                asked = json.read(body, header_length)
            else:
                asked = await bodies.aside(admitted, json.read, body, header_length)
            self._models.schedule(asked.parameters, admitted)
            output = await self._models.infer(asked.inputs, asked.outputs, admitted)
            answer, json_length = json.write(name, admitted.version.number, asked, output)
        if json_length is None:
            reply = web.Response(body=answer, content_type="application/json")
            if len(answer) >= COMPRESSED_BYTES:
                reply.enable_compression()  # as the caller accepts, and not on this thread
            return reply
        lengths = {HEADER_LENGTH: str(json_length)}
        return web.Response(body=answer, content_type="application/octet-stream", headers=lengths)

    async def index(self, request: web.Request) -> web.Response:
        """Every version on disk, and whether it is served."""
        self._control.check(_peer(request))
        only_ready = (await self._options(request)).get("ready") is True
        return web.json_response(await self._control.index(_peer(request), only_ready))

    async def load(self, request: web.Request) -> web.Response:
        """Serves what the disk has now."""
        self._control.check(_peer(request))
        parameters = (await self._options(request)).get("parameters") or {}
        await self._control.load(_peer(request), request.match_info["model"], parameters)
        return web.json_response({})

    async def unload(self, request: web.Request) -> web.Response:
        """Serves no version until the next load."""
        await self._control.unload(_peer(request), request.match_info["model"])
        return web.json_response({})

    async def _options(self, request: web.Request) -> dict[str, Any]:
        body = await bodies.read_short(request)
        return json.parse(body) if body else {}


def _peer(request: web.Request) -> str:
    """Empty when a browser asks on behalf of a page."""
    return "" if {"origin", "sec-fetch-site"} & request.headers.keys() else request.remote or ""


def _model(request: web.Request) -> tuple[str, str]:
    return request.match_info.get("model", ""), request.match_info.get("version", "")


def _header_length(request: web.Request) -> int | None:
    text = request.headers.get(HEADER_LENGTH)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise BadRequest(f"{HEADER_LENGTH} must be a whole number of bytes")
    return int(text)
