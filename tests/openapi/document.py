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
from alexnet.ten_views import VIEWS
from protos import classifier_pb2 as pb
from protos import oip_pb2 as oip
from server import errors
from server.api import access, bodies, forms, requests
from server.api.huggingface import SCORES
from server.api.oip.http import HEADER_LENGTH
from server.api.options import DEFAULT_TOP_K
from server.api.probes import STATES
from server.errors import ERRORS, ServeError
from server.thorough import EXPLANATIONS
from tests.openapi.schemas import Json, Schemas, comments, fields

# By what the path has in it.
_RAISES: dict[str, Collection[type[ServeError]]] = {
    # a request id that is none; a page of another site, a foreign name of the loopback; a bug
    "": {errors.BadRequest, errors.Disabled, errors.ServeError},
    "models/{|web/{": {errors.NotFound},
    "models/{|repository": {errors.Forbidden},
    "[12]/models/{": {errors.NotReady},
    "repository": {errors.TooLarge, errors.Expired, errors.UnsupportedEncoding},
    "classif|infer|:predict": {*ERRORS},
}
_LOCKED = {errors.Unauthenticated, errors.RateLimited}
_SCHEDULE = (requests.TIMEOUT, requests.PRIORITY, hdrs.CONTENT_ENCODING)
_JSON, _BINARY = "application/json", {"application/octet-stream": bytes}
_FORM = "multipart/form-data"
_PICTURES = {"image/jpeg": bytes, "image/svg+xml": str}
# openapi-generator takes the first: POST sends several files, and PUT one, as `curl -T` does.
_UPLOAD = {_FORM: {"file": [bytes]}, "image/*": bytes, **_BINARY}


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
        {_JSON: ("Classification", "Files"), "image/png": bytes},
        (*requests.OPTIONS, *_SCHEDULE),
        _UPLOAD,
        ("Server-Timing",),
    ),
    "ClassifyHttp.list_models": _Row({_JSON: {"models": ["Model"]}}),
    "ClassifyHttp.get_model": _Row({_JSON: "Model"}, ("version",)),
    "ClassifyHttp.get_costs": _Row({_JSON: dict}, ("version",)),
    "HuggingFace.classify": _Row(
        {_JSON: [{"label": str, "score": float}]},
        _SCHEDULE,
        {
            "image/*": bytes,
            **_BINARY,
            _JSON: {"inputs": str, "parameters?": {"top_k?": int, "function_to_apply?": {*SCORES}}},
        },
    ),
    "InsideHttp.get_inside": _Row({_JSON: "Inside"}, ("version",)),
    "InsideHttp.get_live": _Row({_JSON: "Live"}, ("version",)),
    "ClassifyHttp.get_class": _Row({_JSON: "Class"}, ("version",)),
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
    "TensorFlow.predict": _Row(
        {_JSON: {"predictions": [[float]]}}, _SCHEDULE, {_JSON: {"instances": [{"b64": str}]}}
    ),
    "Probes.live": _Row({_JSON: {"live": bool}}),
    "Probes.ready": _Row({_JSON: {"ready": bool, "state": {*STATES}}}),
    "Pages.home": _Row({"text/html": str}),
    "Pages.model": _Row({"text/html": str}),
    "Pages.docs": _Row({"text/html": str}),
    "Pages.asset": _Row({"text/css": str, "text/javascript": str} | _PICTURES),
    "Pages.openapi": _Row({_JSON: dict}),
}


def document(routes: Iterable[web.RouteDef]) -> Json:
    """Raises KeyError for a handler without a row."""
    schemas, parameters, paths = Schemas(_named()), {p["name"]: p for p in _parameters()}, Json()
    for route in routes:
        operation = _operation(route, parameters, schemas)
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    about = f"Photos in ({', '.join(FORMATS)}; up to {forms.MAX_FILES} in a form), classes out."
    return {
        "openapi": "3.1.0",
        "info": {"title": "AlexNet server", "version": __version__, "description": about},
        # Where this document lies, which behind a proxy may be under a prefix.
        "servers": [{"url": "."}],
        "paths": paths,
        "security": [{}, {"bearer": []}, {"api_key": []}],
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _operation(route: web.RouteDef, parameters: Json, schemas: Schemas) -> Json:
    path, row, doc = route.path, _ROWS[route.handler.__qualname__], inspect.getdoc(route.handler)
    assert doc, f"{route.handler.__qualname__} has no docstring"
    summary, _, description = (" ".join(part.split()) for part in doc.partition("\n\n"))
    in_path = [_parameter("path", name, type="string") for name in re.findall(r"{(\w+)}", path)]
    asked = [parameters[name] for name in (*row.asks, access.REQUEST_ID)]
    answer, statuses = schemas.content(row.answer), [200]
    answer["headers"] = {h: {"schema": schemas.of(str)} for h in (access.REQUEST_ID, *row.sends)}
    statuses += [503] if "ready" in path else []
    answers = {str(s): {"description": HTTPStatus(s).phrase, **answer} for s in statuses}
    required = not path.endswith("index")
    body = {"required": required, **schemas.content(_taken(route, row))} if row.body else {}
    return {
        "operationId": "_".join(re.findall(r"\w+", f"{route.method.lower()}{path}")),
        "tags": re.findall(r"^/(v\d)", path) or ["server"],
        "summary": summary.removesuffix("."),
        "description": description,
        "parameters": in_path + asked,
        **({"security": []} if path in access.OPEN else {}),
        **({"requestBody": body} if body else {}),
        "responses": {**answers, **_refusals(path, schemas), **answers},
    }


def _taken(route: web.RouteDef, row: _Row) -> Json:
    body = row.body or {}
    return {kind: shape for kind, shape in body.items() if (route.method, kind) != ("PUT", _FORM)}


def _refusals(path: str, schemas: Schemas) -> Json:
    """By their status."""
    raised = [kinds for part, kinds in _RAISES.items() if re.search(part, path)]
    raised += [] if path in access.OPEN else [_LOCKED]
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
    shown = "A PNG in place of classes: what the network saw, or where in it the evidence lies."
    yield _parameter("query", "return", shown, enum=[*requests.PICTURES])
    asked = "ClassifyRequest."
    chance = {"type": "number", "minimum": 0, "maximum": 1}
    yield _parameter("query", "min_probability", f"{asked}min_probability", **chance)
    yield _parameter("query", "labels", f"{asked}labels", **text)
    yield _parameter("query", "kinds", f"{asked}kinds", type="boolean", default=False)
    yield _parameter("query", "views", f"{asked}views", type="integer", enum=[1, VIEWS])
    yield _parameter("query", "explain", f"{asked}explain", **text, enum=[*EXPLANATIONS])
    yield _parameter("header", request_id, "ClassifyRequest.request_id", **text, pattern=valid)
    yield _parameter("header", requests.TIMEOUT, "In ms: what would be late is refused.", **whole)
    yield _parameter("header", requests.PRIORITY, "ClassifyRequest.priority", **whole)
    yield _parameter("header", hdrs.CONTENT_ENCODING, "Of the body.", enum=bodies.ENCODINGS)
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
    photo["kinds?"], photo["explanation?"] = photo.pop("kinds"), "Explanation"
    del photo["explanation"]
    explanation = fields(pb.Explanation) | {"grid": [[float]]}
    explanation["largest_drop?"] = explanation.pop("largest_drop")
    del explanation["rows"]
    photo["image"] = "Image"
    photo["batch_size"] = timing.pop("batch_size")
    photo["cached?"] = photo.pop("cached")
    photo["timing_ms"] = {name.removesuffix("_ms"): field for name, field in timing.items()}
    model = fields(pb.Model) | {"description": str, "engine": str, "explanations": [str]}
    model["ready?"] = bool  # of one that is asked for by name
    for name in ("top1", "top5", "measured_on", "versions"):
        del model[name]
    model["accuracy"] = (None, {"top1": float, "top5": float, "photos": int, "data": str})
    code = {kind.reason for kind in ERRORS}
    error = {"error": {"code": code, "message": str, "retry_after_ms?": int}, "request_id": str}
    either = {f"{name}?": shape for name, shape in (photo | error).items()}
    tensor = {"name": str, "datatype": str, "shape": [int], "parameters?": dict, "data?": list}
    asked = {"id?": str, "parameters?": dict, "outputs?": [{"name": str, "parameters?": dict}]}
    layer = {
        "name": str, "weights": [int], "output": [int], "parameters": int, "zeros": float,
        "macs": int, "ms": (None, float),
    }  # fmt: skip
    artifact = {
        "file": str, "precision": str, "bytes": int, "served": bool, "agreement": float,
        "accuracy": model["accuracy"],
    }  # fmt: skip
    return {
        "Inside": {
            "model": "Model", "layers": [layer], "rest_ms": (None, float), "filters": (None, str),
            "artifacts": [artifact], "card": str,
        },
        "Live": {
            "photos": int, "runs": dict, "answered": int, "failed": int, "in_flight": int,
            "latencies": [{"up_to_ms": float, "requests": int}],
        },
        "Classification": photo,
        "Explanation": explanation,
        "Image": fields(pb.Image) | {"format": {*FORMATS}},
        "Files": {"files": [{"file": str, "status": int, **either}], "request_id": str},
        "Model": model,
        "Class": {
            "index": int, "synset": str, "names": [str], "path": [{"synset": str, "name": str}]
        },
        "Error": error,
        "OipError": {"error": str},
        "InferRequest": {"inputs": [tensor], **asked},
        "InferResponse": {
            "model_name": str, "model_version": str, "outputs": [tensor], "id?": str,
            "parameters?": dict,
        },
    }  # fmt: skip
