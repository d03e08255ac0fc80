"""The REST face: uploads in, JSON out. It converts and calls the plane; nothing else."""

import logging
from collections.abc import Mapping
from typing import Any

from aiohttp import BodyPartReader, hdrs, web
from aiohttp.http_exceptions import BadHttpMessage
from multidict import CIMultiDict

from server import logs
from server.errors import BadRequest, NotFound, ServeError, TooLarge
from server.faces.replies import classification, failure, model, status_of
from server.faces.request_id import checked_request_id
from server.metrics import Timing
from server.plane import DataPlane

log = logging.getLogger(__name__)

MAX_FILES = 64  # in one multipart upload


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
        ]

    async def expect(self, request: web.Request) -> web.StreamResponse | None:
        """Answers `Expect: 100-continue`: what is too large is refused before it is sent."""
        if (request.content_length or 0) > self._plane.limits.max_request_bytes:
            return await errors(request, self.classify)
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None

    async def classify(self, request: web.Request) -> web.Response:
        k = _top_k(request.query)
        self._check_length(request)
        if request.content_type == "multipart/form-data":
            return await self._classify_files(request, k)
        with self._plane.admit("rest", _timeout_s(request)) as admission:
            image = await self._read(request)
            result = await self._plane.classify(image, admission, k)
        body = classification(self._plane.model, result, request["id"])
        return web.json_response(body, headers=_timing_headers(result.timing))

    async def list_models(self, request: web.Request) -> web.Response:
        return web.json_response({"models": [model(self._plane.model)]})

    async def get_model(self, request: web.Request) -> web.Response:
        served = self._plane.model
        if request.match_info["name"] != served.name:
            raise NotFound(f"there is no such model; {served.name!r} is served")
        return web.json_response(model(served))

    async def _classify_files(self, request: web.Request, k: int | None) -> web.Response:
        """Every `file` of the form, one after the other; a single file answers like a raw body."""
        files: list[tuple[str, dict[str, Any]]] = []
        last: Timing | None = None
        error: ServeError | None = None
        try:
            async for part in await request.multipart():
                if not isinstance(part, BodyPartReader) or part.name != "file":
                    raise BadRequest("a form has one or more fields named 'file' and no others")
                if len(files) == MAX_FILES:
                    raise BadRequest(f"a form has at most {MAX_FILES} files")
                name = part.filename or ""
                try:
                    with self._plane.admit("rest", _timeout_s(request)) as admission:
                        image = await self._read_part(part)
                        result = await self._plane.classify(image, admission, k)
                    last = result.timing
                    body = classification(self._plane.model, result, request["id"])
                    files.append((name, {"status": 200, **body}))
                except ServeError as caught:
                    error = caught
                    reply = failure(caught, request["id"])
                    files.append((name, {"status": status_of(caught), **reply}))
        except (ValueError, AssertionError, EOFError, BadHttpMessage) as malformed:
            raise BadRequest(f"the form is malformed: {malformed}".rstrip(": ")) from None
        if not files:
            raise BadRequest("the form has no field named 'file'")
        if len(files) > 1:
            return web.json_response({"files": [{"file": name, **body} for name, body in files]})
        if error is not None:
            raise error
        assert last is not None
        _, body = files[0]
        del body["status"]
        return web.json_response(body, headers=_timing_headers(last))

    async def _read(self, request: web.Request) -> bytes:
        try:
            return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise self._plane.too_large() from None

    async def _read_part(self, part: BodyPartReader) -> bytes:
        data = bytearray()
        while chunk := await part.read_chunk(1 << 16):
            data += chunk
            if len(data) > self._plane.limits.max_request_bytes:
                raise self._plane.too_large()
        return bytes(data)

    def _check_length(self, request: web.Request) -> None:
        length = request.content_length
        if length is not None and length > self._plane.limits.max_request_bytes:
            raise self._plane.too_large(length)


@web.middleware
async def errors(request: web.Request, handler: Any) -> web.StreamResponse:
    """Every error as JSON with its status; what nobody foresaw is logged and says nothing."""
    try:
        request["id"] = ""
        request["id"] = checked_request_id(request.headers.get("x-request-id", ""))
        logs.request_id.set(request["id"])
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
    response.headers["x-request-id"] = request["id"]
    response.headers[hdrs.SERVER] = "alexnet-server"  # which versions run here is nobody's business
    return response


def _failure(request: web.Request, error: ServeError, status: int | None = None) -> web.Response:
    response = web.json_response(failure(error, request["id"]), status=status or status_of(error))
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        response.headers[hdrs.RETRY_AFTER] = str(max(1, round(retry_after_s)))
    if isinstance(error, TooLarge):
        response.force_close()  # the rest of the upload is not worth reading
    return response


def _top_k(query: Mapping[str, str]) -> int | None:
    if unknown := sorted(query.keys() - {"top_k"}):
        raise BadRequest(f"unknown parameter {', '.join(unknown)}; there is top_k")
    text = query.get("top_k")
    if text is None:
        return None
    if not (text.isascii() and text.lstrip("-").isdigit() and len(text) < 10):
        raise BadRequest(f"top_k must be a whole number, not {text[:20]!r}")
    return int(text)


def _timeout_s(request: web.Request) -> float | None:
    text = request.headers.get("x-request-timeout-ms")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadRequest("x-request-timeout-ms must be a whole number of milliseconds")
    return int(text) / 1000


def _timing_headers(timing: Timing) -> CIMultiDict[str]:
    """W3C Server-Timing: browsers draw it in their network panel."""
    parts = (
        f"{stage};dur={getattr(timing, stage) * 1000:.2f}"
        for stage in ("decode", "queue", "infer", "total")
    )
    return CIMultiDict({"Server-Timing": ", ".join(parts)})
