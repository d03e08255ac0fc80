"""The OpenAPI document of the public port, made of what the server is made of: its routes, the
docstrings of their handlers, the messages of protos/, the table of errors.

By hand is what stands nowhere else: a row for each handler, and the JSON that is no message.
"""

import inspect
import re
from collections.abc import Collection, Iterable, Iterator
from http import HTTPStatus
from typing import Any, NamedTuple

from aiohttp import hdrs, web

from alexnet import __version__
from alexnet.formats import FORMATS
from protos import classifier_pb2 as pb
from protos import oip_pb2 as oip
from server import errors
from server.api import access, requests
from server.api.classify_http import OPTIONS
from server.api.oip.http import HEADER_LENGTH
from server.errors import ERRORS, ServeError
from server.service import DEFAULT_TOP_K, State
from tests.openapi.schemas import Json, Schemas, comments, fields

# By what the path has in it.
_RAISES: dict[str, Collection[type[ServeError]]] = {
    "": {errors.BadRequest, errors.ServeError},  # a request id that is none; a bug
    "models/{": {errors.NotFound},
    "[12]/models/{": {errors.NotReady},
    "repository": {errors.Disabled, errors.TooLarge, errors.Expired},
    "classify|infer": {*ERRORS} - {errors.Disabled},
}
_SCHEDULE = (requests.TIMEOUT, requests.PRIORITY, hdrs.CONTENT_ENCODING)
_JSON, _BINARY = "application/json", {"application/octet-stream": bytes}
_UPLOAD = {"image/*": bytes, **_BINARY, "multipart/form-data": {"file": [bytes]}}


class _Row(NamedTuple):
    """Of a handler; answer and body are shapes by their content type."""

    answer: Json
    asks: tuple[str, ...] = ()
    """Of the query and the headers."""
    body: Json | None = None
    sends: tuple[str, ...] = ()
    """Headers."""


_ROWS: dict[str, _Row] = {
    "ClassifyHttp.classify": _Row(
        {_JSON: ("Classification", "Files")}, (*OPTIONS, *_SCHEDULE), _UPLOAD, ("Server-Timing",)
    ),
    "ClassifyHttp.list_models": _Row({_JSON: {"models": ["Model"]}}),
    "ClassifyHttp.get_model": _Row({_JSON: "Model"}, ("version",)),
    "ClassifyHttp.get_costs": _Row({_JSON: dict}, ("version",)),
    "OipHttp.server": _Row({_JSON: oip.ServerMetadataResponse}),
    "OipHttp.live": _Row({_JSON: {"live": bool}}),
    "OipHttp.ready": _Row({_JSON: {"ready": bool}}),
    "OipHttp.model_ready": _Row({_JSON: {"name": str, "ready": bool}}),
    "OipHttp.metadata": _Row({_JSON: oip.ModelMetadataResponse}),
    "OipHttp.config": _Row({_JSON: oip.ModelConfig}),
    "OipHttp.statistics": _Row({_JSON: oip.ModelStatisticsResponse}),
    "OipHttp.infer": _Row(
        {_JSON: "InferResponse"} | _BINARY,
        (*_SCHEDULE, HEADER_LENGTH),
        {_JSON: "InferRequest"} | _BINARY,
        (HEADER_LENGTH,),
    ),
    "OipHttp.index": _Row(
        {_JSON: [oip.RepositoryIndexResponse.ModelIndex]}, body={_JSON: {"ready?": bool}}
    ),
    "OipHttp.load": _Row({_JSON: {}}),
    "OipHttp.unload": _Row({_JSON: {}}),
    "Probes.live": _Row({_JSON: {"live": bool}}),
    "Probes.ready": _Row({_JSON: {"ready": bool, "state": {state.value for state in State}}}),
    "Pages.home": _Row({}),
    "Pages.page": _Row({"text/html": str}),
    "Pages.openapi": _Row({_JSON: dict}),
}


def document(routes: Iterable[web.RouteDef]) -> Json:
    """Raises KeyError for a handler without a row."""
    schemas, parameters, paths = Schemas(_named()), {p["name"]: p for p in _parameters()}, Json()
    for route in routes:
        operation = _operation(route, parameters, schemas)
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    about = f"Photos in ({', '.join(FORMATS)}; up to {requests.MAX_FILES} in a form), classes out."
    return {
        "openapi": "3.1.0",
        "info": {"title": "AlexNet server", "version": __version__, "description": about},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _operation(route: web.RouteDef, parameters: Json, schemas: Schemas) -> Json:
    path, row, doc = route.path, _ROWS[route.handler.__qualname__], inspect.getdoc(route.handler)
    assert doc, f"{route.handler.__qualname__} has no docstring"
    summary, _, description = (" ".join(part.split()) for part in doc.partition("\n\n"))
    in_path = [_parameter("path", name, type="string") for name in re.findall(r"{(\w+)}", path)]
    asked = [parameters[name] for name in (*row.asks, access.REQUEST_ID)]
    answer, statuses = schemas.content(row.answer), [200 if row.answer else 302]
    answer["headers"] = {h: {"schema": schemas.of(str)} for h in (access.REQUEST_ID, *row.sends)}
    statuses += [503] if "ready" in path else []
    answers = {str(s): {"description": HTTPStatus(s).phrase, **answer} for s in statuses}
    required = not path.endswith("index")
    body = {"required": required, **schemas.content(row.body)} if row.body else {}
    return {
        "operationId": "_".join(re.findall(r"\w+", f"{route.method.lower()}{path}")),
        "tags": re.findall(r"^/(v\d)", path) or ["server"],
        "summary": summary.removesuffix("."),
        "description": description,
        "parameters": in_path + asked,
        **({"requestBody": body} if body else {}),
        "responses": {**answers, **_refusals(path, schemas), **answers},
    }


def _refusals(path: str, schemas: Schemas) -> Json:
    """By their status."""
    raised = [kinds for part, kinds in _RAISES.items() if re.search(part, path)]
    texts: dict[int, list[str]] = {}
    for kind in ERRORS:
        if any(kind in kinds for kinds in raised):
            text = f"`{kind.reason}` ({kind.grpc} over gRPC): {kind.meaning}"
            texts.setdefault(kind.http, []).append(text)
    retry = {"description": "Seconds, where another try may help.", "schema": schemas.of(int)}
    body = schemas.content({_JSON: "OipError" if path.startswith("/v2") else "Error"})
    body["headers"] = {access.REQUEST_ID: {"schema": schemas.of(str)}, hdrs.RETRY_AFTER: retry}
    return {str(http): {"description": " ".join(texts[http]), **body} for http in sorted(texts)}


def _parameters() -> Iterator[Json]:
    text, whole = {"type": "string"}, {"type": "integer", "minimum": 1}
    number, valid = "^[1-9][0-9]*$", f"^{access.VALID.pattern}$"
    request_id = access.REQUEST_ID
    yield _parameter("query", "top_k", "ClassifyRequest.top_k", **whole, default=DEFAULT_TOP_K)
    yield _parameter("query", "version", "ClassifyRequest.version", **text, pattern=number)
    yield _parameter("header", request_id, "ClassifyRequest.request_id", **text, pattern=valid)
    yield _parameter("header", requests.TIMEOUT, "In ms: what would be late is refused.", **whole)
    yield _parameter("header", requests.PRIORITY, "ClassifyRequest.priority", **whole)
    yield _parameter("header", hdrs.CONTENT_ENCODING, "Of the body.", enum=requests.ENCODINGS)
    length = "Bytes of JSON before the tensors; 0 where the body is nothing but a tensor."
    yield _parameter("header", HEADER_LENGTH, length, type="integer")


def _parameter(place: str, name: str, about: str = "", **schema: Any) -> Json:
    """`about` may be a field that gRPC has for it: its .proto file says what it is."""
    text = comments().get(about, about)
    required = place == "path"
    return {"in": place, "name": name, "required": required, "description": text, "schema": schema}


def _named() -> Json:
    """Shapes, as messages.py and oip/json.py write them."""
    photo, timing = fields(pb.ClassifyResponse), fields(pb.Timing)
    del photo["timing"]
    photo["image"] = "Image"
    photo["batch_size"] = timing.pop("batch_size")
    photo["timing_ms"] = {name.removesuffix("_ms"): field for name, field in timing.items()}
    model = fields(pb.Model) | {"description": str, "engine": str}
    for name in ("top1", "top5", "measured_on", "versions"):
        del model[name]
    model["accuracy"] = (None, {"top1": float, "top5": float, "photos": int, "data": str})
    code = {kind.reason for kind in ERRORS}
    error = {"error": {"code": code, "message": str, "retry_after_ms?": int}, "request_id": str}
    either = {f"{name}?": shape for name, shape in (photo | error).items()}
    tensor = {"name": str, "datatype": str, "shape": [int], "parameters?": dict, "data?": list}
    asked = {"id?": str, "parameters?": dict, "outputs?": [{"name": str, "parameters?": dict}]}
    return {
        "Classification": photo,
        "Image": fields(pb.Image) | {"format": {*FORMATS}},
        "Files": {"files": [{"file": str, "status": int, **either}], "request_id": str},
        "Model": model,
        "Error": error,
        "OipError": {"error": str},
        "InferRequest": {"inputs": [tensor], **asked},
        "InferResponse": {
            "model_name": str, "model_version": str, "outputs": [tensor], "id?": str
        },
    }  # fmt: skip
