"""The documentation that the server serves is true."""

import base64
import json
from typing import Any

import aiohttp
import pytest
from openapi_schema_validator import OAS31Validator

from tests.fakes import faking, flat
from tests.openapi.__main__ import COMMITTED
from tests.photos import jpeg
from tests.processes import ServerProcess

pytestmark = pytest.mark.process

# Headers of HTTP and of browsers, which mean the same everywhere.
USUAL = {"connection", "content-length", "content-type", "date", "location", "server"}
USUAL |= {"content-security-policy", "x-content-type-options"}
USUAL |= {"cache-control", "content-encoding", "etag", "vary"}
NAMES = {"name": "alexnet", "model": "alexnet", "version": "1"}
NAMES |= {"asset": "page.css", "synset": "n01443537"}


async def document(base: str) -> dict[str, Any]:
    async with aiohttp.ClientSession(base) as session, session.get("/openapi.json") as response:
        assert response.content_type == "application/json"
        found: dict[str, Any] = await response.json()
        return found


async def test_what_is_served_is_what_is_committed(server: ServerProcess) -> None:
    assert await document(server.http) == json.loads(COMMITTED.read_text())


async def test_the_document_lists_exactly_the_routes_of_the_public_port() -> None:
    async with faking() as fake:
        described = {
            (verb.upper(), path)
            for path, verbs in (await document(fake.url))["paths"].items()
            for verb in verbs
        }
        routes = {
            (route.method, route.resource.canonical)
            for route in fake.server.http._runner.app.router.routes()
            if route.resource is not None and route.method != "HEAD"
        }
    assert described == routes


async def ask(base: str, verb: str, path: str, url: str = "", **sent: Any) -> tuple[int, Any]:
    """Status and JSON of an answer that has all and nothing but what the document says of it."""
    found = await document(base)
    async with (
        aiohttp.ClientSession(base) as session,
        session.request(verb, url or path, allow_redirects=False, **sent) as response,
    ):
        described = found["paths"][path][verb]["responses"][str(response.status)]
        described_headers = {name.lower() for name in described["headers"]}
        assert {name.lower() for name in response.headers} <= described_headers | USUAL
        content = described["content"]
        schema = closed(content[response.content_type]["schema"])
        if response.content_type != "application/json":
            return response.status, None
        body = await response.json()
    OAS31Validator(schema | {"components": closed(found["components"])}).validate(body)
    return response.status, body


def closed(schema: Any) -> Any:
    """The same schema, to which nothing may be added."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inside = {name: closed(value) for name, value in schema.items()}
    return {**inside, "additionalProperties": False} if "required" in schema else inside


async def test_every_get_is_answered_as_described(server: ServerProcess) -> None:
    await ask(server.http, "post", "/v1/classify", data=jpeg())  # there is something to count
    for path, verbs in (await document(server.http))["paths"].items():
        if "get" in verbs:
            status, _ = await ask(server.http, "get", path, path.format(**NAMES))
            assert status == 200, path
        if "get" in verbs and "{" in path:
            url = path.format(**NAMES | dict.fromkeys(("name", "model", "asset"), "other"))
            assert (await ask(server.http, "get", path, url))[0] == 404, path


async def test_uploads_are_answered_as_described() -> None:
    async with faking() as fake:
        for verb in ("post", "put"):
            status, one = await ask(fake.url, verb, "/v1/classify", data=flat(75))
            assert (status, one["predictions"][0]["index"]) == (200, 3)
        assert (await ask(fake.url, "post", "/v1/classify", data=b"text"))[0] == 415
        form = aiohttp.FormData()
        for data in (flat(75), b"text"):
            form.add_field("file", data, filename="photo")
        _, several = await ask(fake.url, "post", "/v1/classify", data=form)
        assert [row["status"] for row in several["files"]] == [200, 415]


async def test_inference_is_answered_as_described() -> None:
    path, url = "/v2/models/{model}/infer", "/v2/models/tiny/infer"
    tensor = {
        "name": "image",
        "datatype": "BYTES",
        "shape": [1],
        "parameters": {"content_type": "base64"},
        "data": [base64.b64encode(flat(75)).decode()],
    }
    classes = {"name": "probabilities", "parameters": {"classification": 1}}
    most: dict[str, Any] = {"inputs": [tensor], "outputs": [classes], "id": "7"}
    async with faking() as fake:
        components = closed((await document(fake.url))["components"])
        request = {"$ref": "#/components/schemas/InferRequest", "components": components}
        for asked in (most, {"inputs": [tensor]}):
            OAS31Validator(request).validate(asked)
            status, body = await ask(fake.url, "post", path, url, json=asked)
            assert (status, body["outputs"][0]["name"]) == (200, "probabilities")
        raw = {"data": flat(75), "headers": {"Inference-Header-Content-Length": "0"}}
        assert await ask(fake.url, "post", path, url, **raw) == (200, None)
        assert (await ask(fake.url, "post", path, url, json={}))[0] == 400


async def test_repository_control_is_answered_as_described() -> None:
    async with faking(repository_control="local") as fake:
        _, index = await ask(fake.url, "post", "/v2/repository/index", json={"ready": True})
        assert [entry["name"] for entry in index] == ["tiny", "tiny_pixels"]
        for verb in ("unload", "load"):
            path = f"/v2/repository/models/{{model}}/{verb}"
            assert await ask(fake.url, "post", path, path.format(model="tiny")) == (200, {})
            assert (await ask(fake.url, "post", path, path.format(model="other")))[0] == 404
    async with faking() as fake:
        assert (await ask(fake.url, "post", "/v2/repository/index"))[0] == 403


async def test_a_server_without_a_version_answers_as_described() -> None:
    model = "/v2/models/{model}"
    async with faking() as fake:
        await fake.service.repository.unload()
        for path in ("/readyz", "/v2/health/ready", f"{model}/ready", model):
            assert (await ask(fake.url, "get", path, path.format(model="tiny")))[0] == 503
        assert (await ask(fake.url, "get", "/readyz"))[1] == {"ready": False, "state": "unloaded"}
        assert (await ask(fake.url, "post", "/v1/classify", data=flat(75)))[0] == 503
