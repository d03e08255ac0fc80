"""The REST face of the Open Inference Protocol, with Triton's extensions: `/v2`."""

import logging
from typing import Any

from aiohttp import web

from server.api import headers
from server.api.body import read, read_short, upload_bytes
from server.api.oip import json as oip_json
from server.api.oip import metadata as oip_metadata
from server.api.oip.control import RepositoryControl
from server.api.oip.models import signature_of
from server.errors import BadRequest
from server.service import DataPlane
from server.telemetry import logs
from server.workers.peers import Alone

HEADER_LENGTH = "Inference-Header-Content-Length"

# aiohttp stumbles over such a body once more when it looks for the next request.
logs.calm(
    logging.getLogger("server.api.listener"),
    web.RequestPayloadError,
    "a body that cannot be decompressed was answered 400",
)


class OipRest:
    """The handlers of `/v2`."""

    def __init__(self, plane: DataPlane, everyone: Alone, repository_control: str):
        self._plane, self._models, self._everyone = plane, everyone.models, everyone
        self._control = RepositoryControl(everyone, repository_control)

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
        return web.json_response(oip_metadata.server(self._control.extensions))

    async def live(self, request: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def ready(self, request: web.Request) -> web.Response:
        ready = self._plane.ready
        return web.json_response({"ready": ready}, status=200 if ready else 503)

    async def model_ready(self, request: web.Request) -> web.Response:
        name, version = _model(request)
        ready = self._models.ready(name, version)
        return web.json_response({"name": name, "ready": ready}, status=200 if ready else 503)

    async def metadata(self, request: web.Request) -> web.Response:
        return web.json_response(oip_metadata.metadata(self._models, *_model(request)))

    async def config(self, request: web.Request) -> web.Response:
        return web.json_response(oip_metadata.config(self._models, *_model(request)))

    async def statistics(self, request: web.Request) -> web.Response:
        return web.json_response(await self._everyone.statistics(*_model(request)))

    async def infer(self, request: web.Request) -> web.Response:
        name, version = _model(request)
        self._models.check(name)
        timeout_s, priority = headers.schedule(request, self._plane, "oip-rest")
        with self._plane.admit(
            "oip-rest",
            timeout_s,
            priority=priority,
            version=version,
            model=name,
            upload_bytes=upload_bytes(request, self._plane),
            hurried=timeout_s is not None,
        ) as admission:
            header_length = _header_length(request)
            most_s = self._plane.limits.request_timeout_s
            body = await admission.in_time(read(request, self._plane), most_s)
            if header_length == 0:  # no JSON at all
                question = oip_json.raw(signature_of(admission.served, name).described(body))
            else:
                question = oip_json.read(body, header_length)
            self._models.schedule(question.parameters, timeout_s, admission)
            output = await self._models.infer(question.inputs, question.outputs, admission)
            answer, json_length = oip_json.write(name, admission.served.version, question, output)
        if json_length is None:
            return web.Response(body=answer, content_type="application/json")
        lengths = {HEADER_LENGTH: str(json_length)}
        return web.Response(body=answer, content_type="application/octet-stream", headers=lengths)

    async def index(self, request: web.Request) -> web.Response:
        self._control.check(_peer(request))
        only_ready = (await self._options(request)).get("ready") is True
        return web.json_response(self._control.index(_peer(request), only_ready))

    async def load(self, request: web.Request) -> web.Response:
        self._control.check(_peer(request))
        parameters = (await self._options(request)).get("parameters", {})
        await self._control.load(_peer(request), request.match_info["model"], parameters)
        return web.json_response({})

    async def unload(self, request: web.Request) -> web.Response:
        await self._control.unload(_peer(request), request.match_info["model"])
        return web.json_response({})

    async def _options(self, request: web.Request) -> dict[str, Any]:
        body = await read_short(request)
        return oip_json.parse(body) if body else {}


def _peer(request: web.Request) -> str:
    """Nobody's address when a browser asks for a page that the caller is just looking at."""
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
