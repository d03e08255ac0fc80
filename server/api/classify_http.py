"""The REST face: uploads in, JSON out. It converts and calls the plane; nothing else."""

import asyncio
import json
import logging
import math
from contextlib import AbstractContextManager
from typing import Any

from aiohttp import hdrs, web
from multidict import CIMultiDict

from server.api import headers
from server.api.body import read, upload_bytes
from server.api.form import uploads
from server.api.messages import classification, failure, model, status_of
from server.api.request_id import checked_request_id
from server.errors import BadRequest, NotFound, ServeError, TooLarge
from server.models.version import Served
from server.scheduler.request import Admission
from server.service import Classification, DataPlane
from server.telemetry import logs
from server.telemetry.counts import Timing

log = logging.getLogger(__name__)

OPTIONS = ("top_k", "version")
REQUEST_ID = web.RequestKey("request_id", str)


class Rest:
    """The handlers of `/v1`."""

    def __init__(self, plane: DataPlane):
        self._plane = plane

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/classify", self.classify, expect_handler=self.expect),
            web.put("/v1/classify", self.classify, expect_handler=self.expect),
            web.get("/v1/models", self.list_models),
            web.get("/v1/models/{name}", self.get_model),
            web.get("/v1/models/{name}/costmodel", self.get_costs),
        ]

    async def expect(self, request: web.Request) -> web.StreamResponse | None:
        """Answers `Expect: 100-continue`: what is too large is refused before it is sent."""
        if (request.content_length or 0) > self._plane.limits.max_request_bytes:
            return await errors(request, self.classify)
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None

    async def classify(self, request: web.Request) -> web.Response:
        if request.content_type == "multipart/form-data":
            return await self._classify_form(request)
        with self._admit(request) as admission:
            k = _top_k(request)
            most_s = self._plane.limits.request_timeout_s
            image = await admission.in_time(read(request, self._plane), most_s)
            result = await self._plane.classify(image, admission, k)
        return self._reply(request, result)

    async def list_models(self, request: web.Request) -> web.Response:
        return web.json_response({"models": [model(s) for s in self._plane.repository.served]})

    async def get_model(self, request: web.Request) -> web.Response:
        return web.json_response(model(self._named(request)))

    async def get_costs(self, request: web.Request) -> web.Response:
        """What the server expects a batch and a decode to take, and how reality compares."""
        served = self._named(request)
        drift = {stage: round(ratio(), 3) for stage, ratio in served.drift.items()}
        costs = {**json.loads(served.costs.to_json()), "drift": drift}
        return web.json_response({"version": served.version, **costs})

    def _named(self, request: web.Request) -> Served:
        repository, name = self._plane.repository, request.match_info["name"]
        if name != repository.name:
            raise NotFound(f"there is no such model; {repository.name!r} is served")
        return repository.pick(request.query.get("version", ""))

    def _admit(self, request: web.Request) -> AbstractContextManager[Admission]:
        timeout_s, priority = headers.schedule(request, self._plane, "rest")
        return self._plane.admit(
            "rest",
            timeout_s,
            priority=priority,
            version=request.query.get("version", ""),
            upload_bytes=upload_bytes(request, self._plane),
        )

    async def _classify_form(self, request: web.Request) -> web.Response:
        """Many photos of the form at once, so that they share batches; each has its own status."""
        with self._admit(request) as admission:
            k = _top_k(request)
            limits = self._plane.limits
            body = uploads(request, limits.max_request_bytes)
            files = await admission.in_time(body, limits.request_timeout_s)
        places = asyncio.Semaphore(self._plane.share)

        async def answer(image: bytes) -> Classification | ServeError:
            try:
                async with places:
                    with self._plane.admit("rest", form=admission) as photo:
                        return await self._plane.classify(image, photo, k)
            except ServeError as error:
                return error.bare()

        with self._plane.hold(), admission.served.in_use():
            answers = await asyncio.gather(*(answer(file.image) for file in files))
        if len(answers) == 1:
            return self._reply(request, answers[0])
        rows = [
            {"file": file.name, **self._row(answer, request[REQUEST_ID])}
            for file, answer in zip(files, answers, strict=True)
        ]
        return web.json_response({"files": rows, "request_id": request[REQUEST_ID]})

    def _row(self, answer: Classification | ServeError, request_id: str) -> dict[str, Any]:
        if isinstance(answer, ServeError):
            return {"status": status_of(answer), **failure(answer, request_id)}
        return {"status": 200, **classification(answer, request_id)}

    def _reply(self, request: web.Request, answer: Classification | ServeError) -> web.Response:
        if isinstance(answer, ServeError):
            return _failure(request, answer)
        body = classification(answer, request[REQUEST_ID])
        return web.json_response(body, headers=_timing_headers(answer.timing))


@web.middleware
async def errors(request: web.Request, handler: Any) -> web.StreamResponse:
    """Every error as JSON with its status; what nobody foresaw is logged and says nothing."""
    try:
        request[REQUEST_ID] = ""
        request[REQUEST_ID] = checked_request_id(request.headers.get("x-request-id", ""))
        logs.request_id.set(request[REQUEST_ID])
        response: web.StreamResponse = await handler(request)
    except ServeError as error:
        response = _failure(request, error)
    except web.HTTPNotFound:
        response = _failure(request, NotFound(f"there is nothing at {request.path}; see /docs"))
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        text = f"{request.path} takes {allowed}, not {request.method}"
        response = _failure(request, BadRequest(text), 405)
        response.headers[hdrs.ALLOW] = allowed
    except web.HTTPException as redirect:
        response = redirect
    except Exception:
        log.exception("a bug answered %s %s with 'internal error'", request.method, request.path)
        response = _failure(request, ServeError("internal error"))
    response.headers["x-request-id"] = request[REQUEST_ID]
    return response


def _failure(request: web.Request, error: ServeError, status: int | None = None) -> web.Response:
    protocol = request.path == "/v2" or request.path.startswith("/v2/")  # it has its own form
    body = {"error": str(error)} if protocol else failure(error, request[REQUEST_ID])
    response = web.json_response(body, status=status or status_of(error))
    if error.retry_after_s is not None:
        # The header knows whole seconds only; the body has the milliseconds.
        response.headers[hdrs.RETRY_AFTER] = str(math.ceil(error.retry_after_s))
    if isinstance(error, TooLarge):
        response.force_close()  # the rest of the upload is not worth reading
    return response


def _top_k(request: web.Request) -> int | None:
    """Raises BadRequest, for options that there are not too."""
    if unknown := request.query.keys() - OPTIONS:
        raise BadRequest(f"there is no option {min(unknown)[:50]!r}: {', '.join(OPTIONS)}")
    return headers.whole(request.query, "top_k")


def _timing_headers(timing: Timing) -> CIMultiDict[str]:
    """W3C Server-Timing: browsers draw it in their network panel."""
    parts = (
        f"{stage};dur={getattr(timing, stage) * 1000:.2f}"
        for stage in ("decode", "queue", "infer", "total")
    )
    return CIMultiDict({"Server-Timing": ", ".join(parts)})
