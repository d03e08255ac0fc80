"""The OpenAPI document is what the server is made of, and docs/openapi.json is that document."""

import json

import pytest
from aiohttp import web
from openapi_spec_validator import validate

from alexnet import __version__
from alexnet.formats import FORMATS
from protos import classifier_pb2, oip_pb2
from server.api import access, forms, requests
from server.errors import ERRORS, ServeError
from tests.openapi import document as openapi
from tests.openapi.__main__ import COMMITTED, routes, text
from tests.openapi.document import document
from tests.openapi.schemas import Schemas, comments

DOCUMENT = document(routes())
OPERATIONS = [
    (verb, path, operation)
    for path, verbs in DOCUMENT["paths"].items()
    for verb, operation in verbs.items()
]


def test_what_is_committed_is_what_the_server_says() -> None:
    assert COMMITTED.read_text() == text(), "the document is stale: run make openapi"


def test_it_is_valid_openapi_of_this_version() -> None:
    validate(json.loads(text()))
    assert DOCUMENT["info"]["version"] == __version__


def test_every_route_is_described_once_and_no_row_is_left_over() -> None:
    described = {(verb.upper(), path) for verb, path, _ in OPERATIONS}
    assert described == {(route.method, route.path) for route in routes()}
    assert openapi._ROWS.keys() == {route.handler.__qualname__ for route in routes()}
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len({*names}) == len(names)
    assert all(operation["summary"] for _, _, operation in OPERATIONS)


def test_a_route_that_nothing_is_known_of_is_an_error() -> None:
    async def handler(request: web.Request) -> web.Response:
        """This has a docstring, and no row."""
        return web.Response()

    with pytest.raises(KeyError):
        document([web.get("/new", handler)])


def test_a_handler_without_a_docstring_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    monkeypatch.setitem(openapi._ROWS, handler.__qualname__, openapi._Row({}))
    with pytest.raises(AssertionError, match="has no docstring"):
        document([web.get("/new", handler)])


def test_put_is_post_for_a_photo_by_itself() -> None:
    verbs = DOCUMENT["paths"]["/v1/classify"]
    assert verbs["put"]["operationId"] == "put_v1_classify"
    put, post = (verbs[verb]["requestBody"]["content"] for verb in ("put", "post"))
    assert next(iter(post)) == "multipart/form-data"  # some generators take no other
    assert put == {kind: post[kind] for kind in post if kind != "multipart/form-data"}
    same = "operationId", "requestBody"
    assert verbs["put"] | {name: verbs["post"][name] for name in same} == verbs["post"]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: str(kind.reason))
def test_every_error_is_there_with_its_status_and_its_meaning(kind: type[ServeError]) -> None:
    error = DOCUMENT["components"]["schemas"]["Error"]["properties"]["error"]["properties"]
    assert kind.reason in error["code"]["enum"]
    described = [
        operation["responses"][str(kind.http)]["description"]
        for _, _, operation in OPERATIONS
        if str(kind.http) in operation["responses"]
    ]
    said = f"`{kind.reason}` ({kind.grpc} over gRPC): {kind.meaning}"
    assert any(said in description for description in described)


def test_an_upload_may_fail_in_every_way() -> None:
    expected = {"200", *(str(kind.http) for kind in ERRORS)}
    for path in ("/v1/classify", "/v2/models/{model}/infer", "/v1/models/{name}:predict"):
        assert DOCUMENT["paths"][path]["post"]["responses"].keys() == expected


def test_what_asks_for_a_key_says_so() -> None:
    asking = {path for _, path, operation in OPERATIONS if "401" in operation["responses"]}
    assert asking == DOCUMENT["paths"].keys() - access.OPEN


def test_options_limits_and_formats_are_the_servers() -> None:
    operation = DOCUMENT["paths"]["/v1/classify"]["post"]
    named = {parameter["name"] for parameter in operation["parameters"]}
    assert {*requests.OPTIONS, requests.TIMEOUT, requests.PRIORITY, "x-request-id"} <= named
    image = DOCUMENT["components"]["schemas"]["Image"]["properties"]
    assert image["format"]["enum"] == sorted(FORMATS)
    about = DOCUMENT["info"]["description"]
    assert f"up to {forms.MAX_FILES} in a form" in about
    assert all(name in about for name in FORMATS)


def test_comments_of_the_proto_files_describe_fields() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    messages = {
        each.name: each
        for file in (classifier_pb2.DESCRIPTOR, oip_pb2.DESCRIPTOR)
        for outer in file.message_types_by_name.values()
        for each in (outer, *outer.nested_types)
    }
    synset = schemas["Prediction"]["properties"]["synset"]
    assert synset["description"].startswith("WordNet id such as n02123045")
    shape = schemas["TensorMetadata"]["properties"]["shape"]
    assert shape == {
        "type": "array", "items": {"type": "integer"}, "description": "-1 is the batch dimension."
    }  # fmt: skip
    several = comments()["ClassifyRequest.priority"]
    assert several.startswith("1 is the highest; the server's default when absent.")
    assert "//" not in several
    assert comments()["ModelInferRequest.id"] == "Returned in the response."  # after an inner one
    for name in comments():
        message, field = name.split(".")
        assert field in messages[message].fields_by_name


def test_shapes() -> None:
    schemas = Schemas({"Named": {"needed": str, "absent?": [int]}})
    assert schemas.of((None, "Named")) == {
        "anyOf": [{"type": "null"}, {"$ref": "#/components/schemas/Named"}]
    }
    assert schemas["Named"] == {
        "type": "object",
        "properties": {
            "needed": {"type": "string"},
            "absent": {"type": "array", "items": {"type": "integer"}},
        },
        "required": ["needed"],
    }
    assert schemas.of({"b", "a"}) == {"enum": ["a", "b"]}
    assert schemas.of(oip_pb2.ModelConfig) == {"$ref": "#/components/schemas/ModelConfig"}
    batching = schemas["ModelConfig"]["properties"]["dynamic_batching"]
    assert batching == {"$ref": "#/components/schemas/ModelDynamicBatching"}
    assert schemas["ModelQueuePolicy"]["properties"]["timeout_action"] == {"enum": ["REJECT"]}
