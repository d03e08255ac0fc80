"""The documentation that the server serves: true for programs, and alive in a browser."""

import html
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from alexnet import __version__
from tests.fakes import faking
from tests.photos import jpeg
from tests.processes import ServerProcess

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


async def document(base: str) -> dict[str, Any]:
    async with aiohttp.ClientSession(base) as session, session.get("/openapi.json") as response:
        assert response.content_type == "application/json"
        found: dict[str, Any] = await response.json()
        return found


async def test_the_description_is_valid_openapi_of_this_version(server: ServerProcess) -> None:
    found = await document(server.http)
    validate(found)
    assert found["info"]["version"] == __version__


async def test_the_description_lists_exactly_the_routes_of_the_public_port() -> None:
    async with faking() as fake:
        described = {
            (verb.upper(), path)
            for path, verbs in (await document(fake.url))["paths"].items()
            for verb in verbs
        }
        routes = {
            (route.method, route.resource.canonical)
            for route in fake.http._http._runner.app.router.routes()
            if route.resource is not None and route.method != "HEAD"
            # The Open Inference Protocol has a description of its own.
            if not route.resource.canonical.startswith("/v2")
        }
    assert routes - described == {("GET", path) for path in ("/", "/docs", "/openapi.json")}
    assert described <= routes


async def test_an_answer_has_exactly_the_properties_that_are_described(
    server: ServerProcess,
) -> None:
    schemas = (await document(server.http))["components"]["schemas"]
    async with aiohttp.ClientSession(server.http) as session:
        async with session.post("/v1/classify", data=jpeg()) as response:
            answer = await response.json()
        async with session.get("/v1/models") as response:
            (model,) = (await response.json())["models"]
        async with session.post("/v1/classify", data=b"text") as response:
            error = await response.json()
        async with session.get("/readyz") as response:
            ready = await response.json()
    kinds = {"Classification": answer, "Model": model, "Error": error, "Ready": ready}
    for name, found in kinds.items():
        OAS31Validator(closed(schemas[name])).validate(found)


def closed(schema: Any) -> Any:
    """The same schema, to which nothing may be added."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inside = {name: closed(value) for name, value in schema.items()}
    return {**inside, "additionalProperties": False} if "properties" in schema else inside


async def test_the_page_is_served_with_a_policy_that_lets_nothing_in_from_outside(
    server: ServerProcess,
) -> None:
    async with aiohttp.ClientSession(server.http) as session:
        async with session.get("/", allow_redirects=False) as response:
            assert (response.status, response.headers["location"]) == (302, "/docs")
        async with session.get("/docs") as response:
            assert (response.status, response.content_type) == (200, "text/html")
            page = await response.text()
            policy = response.headers["content-security-policy"]
            assert response.headers["x-content-type-options"] == "nosniff"
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["connect-src"] == "'self'"
    assert directives["frame-ancestors"] == "'none'"
    assert "http" not in policy
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
async def test_the_script_of_the_page_works_in_a_browser_under_its_policy(
    server: ServerProcess, tmp_path: Path
) -> None:
    run = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={tmp_path}", "--virtual-time-budget=5000",
            "--enable-logging=stderr", "--dump-dom", f"{server.http}/docs",
        ],
        capture_output=True, text=True, check=True, timeout=25,
    )  # fmt: skip
    shown = html.unescape(run.stdout)
    assert "Content Security Policy" not in run.stderr
    for path in (await document(server.http))["paths"]:
        assert f"<code>{path}</code>" in shown
    async with (
        aiohttp.ClientSession(server.http) as session,
        session.get("/v1/models") as response,
    ):
        (model,) = (await response.json())["models"]
    assert model["description"] in shown
    assert f"curl -T photo.jpg {server.http}/v1/classify" in shown
