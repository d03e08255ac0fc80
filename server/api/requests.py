"""What an HTTP request asks for: numbers in its headers and its query, and its admission."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

from aiohttp import hdrs, web

from server.api.options import Options
from server.errors import BadRequest, LengthRequired, NotFound, ServeError
from server.scheduler.job import Request
from server.scheduler.pipeline import Pipeline
from server.service import Service
from server.thorough import EXPLANATIONS

TIMEOUT, PRIORITY = "x-request-timeout-ms", "x-request-priority"
_FLAGS = {"true": True, "1": True, "": True, "false": False, "0": False}


def admit(
    request: web.Request,
    service: Service,
    face: str,
    version: str,
    model: str = "",
    deadline_in_body: bool = False,
) -> AbstractContextManager[Request]:
    """`Service.admit` with what the headers say. Raises BadRequest and LengthRequired, counted."""
    headers, length = request.headers, request.content_length
    try:
        timeout = headers.get(TIMEOUT)
        if timeout is not None and not _is_number(timeout):
            raise BadRequest(f"{TIMEOUT} must be a whole number of milliseconds")
        priority = whole(headers, PRIORITY)
        if length is None and hdrs.TRANSFER_ENCODING not in headers:
            raise LengthRequired("say how long the body is: Content-Length, or send it in chunks")
    except ServeError as error:
        service.refused(face, error)
        raise
    if length is None:  # not known: all that is allowed
        length = service.limits.max_request_bytes
    return service.admit(
        face,
        None if timeout is None else int(timeout) / 1000,
        priority=priority,
        version=version,
        model=model,
        upload_bytes=length,
        check=timeout is not None or not deadline_in_body,
    )


OPTIONS = ("top_k", "version", "return", "min_probability", "labels", "kinds", "views", "explain")


CROP, HEATMAP = "crop", "heatmap"
PICTURES = (CROP, HEATMAP)


def picture(request: web.Request) -> str:
    """What is shown in place of classes; empty for nothing. Raises BadRequest."""
    wanted = request.query.get("return", "")
    if wanted not in ("", *PICTURES):
        raise BadRequest(f"return must be {' or '.join(PICTURES)}, not {wanted[:20]!r}")
    return wanted


def named(request: web.Request, service: Service) -> Pipeline:
    """The version that the path and the query name. Raises NotFound."""
    repository, name = service.repository, request.match_info["name"]
    if name != repository.name:
        raise NotFound(f"there is no such model; {repository.name!r} is served")
    return service.pick(request.query.get("version", ""))


def options(request: web.Request) -> Options:
    """What the query says of the answer. Raises BadRequest, for unknown options too."""
    query = request.query
    if unknown := query.keys() - OPTIONS:
        raise BadRequest(f"there is no option {min(unknown)[:50]!r}: {', '.join(OPTIONS)}")
    labels = [text for given in query.getall("labels", []) for text in given.split(",")]
    return Options(
        top_k=whole(query, "top_k"),
        min_probability=_fraction(query, "min_probability"),
        labels=[text for text in labels if text.strip()],
        kinds=_flag(query, "kinds"),
        views=whole(query, "views") or 1,
        explain=query.get("explain", EXPLANATIONS[0] if picture(request) == HEATMAP else ""),
    )


def _flag(given: Mapping[str, str], name: str) -> bool:
    text = given.get(name, "false").lower()
    if text not in _FLAGS:
        raise BadRequest(f"{name} must be true or false, not {text[:20]!r}")
    return _FLAGS[text]


def _fraction(given: Mapping[str, str], name: str) -> float:
    text = given.get(name, "0")
    try:
        return float(text)
    except ValueError:
        raise BadRequest(f"{name} must be a number from 0 to 1, not {text[:20]!r}") from None


def whole(given: Mapping[str, str], name: str) -> int | None:
    """Raises BadRequest for what is no whole number."""
    text = given.get(name)
    if text is None:
        return None
    if not _is_number(text.removeprefix("-")):
        raise BadRequest(f"{name} must be a whole number, not {text[:20]!r}")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
