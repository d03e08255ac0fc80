"""Pages of other sites: those that the operator names may call and read, any other may not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from server.api.http import application
from server.api.listener import Listener
from tests.doors import bearer, secret, write_keys
from tests.fakes import faking, flat
from tests.pages.browser import chromium, needs_chromium

APP, OTHER = "https://app.example", "https://other.example"
CLASSIFY = "/v1/classify"


@asynccontextmanager
async def calling(**more: Any) -> AsyncIterator[aiohttp.ClientSession]:
    async with faking(**more) as fake, aiohttp.ClientSession(fake.url) as session:
        yield session


async def test_a_named_page_may_ask_and_read_answers_and_refusals() -> None:
    async with calling(cors_origin=f"{APP},http://localhost:3000") as session:
        for photo, status in ((flat(50), 200), (b"text", 415)):
            headers = {"origin": APP, "sec-fetch-site": "cross-site"}
            async with session.post(CLASSIFY, data=photo, headers=headers) as response:
                assert response.status == status
                assert response.headers["access-control-allow-origin"] == APP
                assert "server-timing" in response.headers["access-control-expose-headers"]
                assert "Origin" in response.headers.getall("vary")
                assert "access-control-allow-credentials" not in response.headers


@pytest.mark.parametrize("origin", [OTHER, f"{APP}.evil.example", "null", f"{APP}:444"])
async def test_any_other_page_is_refused_and_told_nothing(origin: str) -> None:
    async with calling(cors_origin=APP) as session:
        async with session.post(CLASSIFY, data=flat(50), headers={"origin": origin}) as response:
            assert response.status == 403
            assert "access-control-allow-origin" not in response.headers
        asked = {"origin": origin, "access-control-request-method": "POST"}
        async with session.options(CLASSIFY, headers=asked) as response:
            assert "access-control-allow-origin" not in response.headers


async def test_a_preflight_is_answered_without_a_key(tmp_path: Path) -> None:
    async with calling(cors_origin=APP, keys_file=write_keys(tmp_path)) as session:
        asked = {
            "origin": APP,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,x-request-id",
        }
        async with session.options(CLASSIFY, headers=asked) as response:
            assert response.status == 204
            assert response.headers["access-control-allow-origin"] == APP
            assert response.headers["access-control-allow-headers"] == "authorization,x-request-id"
            assert "POST" in response.headers["access-control-allow-methods"]
        async with session.post(CLASSIFY, data=flat(50), headers={"origin": APP}) as response:
            assert response.status == 401
            assert response.headers["access-control-allow-origin"] == APP


@pytest.mark.process
@needs_chromium
async def test_a_real_browser_lets_the_named_page_read_and_no_other(tmp_path: Path) -> None:
    """Two sites, which differ by their name alone."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>a site</title>", content_type="text/html")

    site = Listener(application([web.get("/", page)]))
    await site.start("127.0.0.1")
    named, other = f"http://localhost:{site.port}", f"http://127.0.0.1:{site.port}"
    ask = """async ([url, key]) => {
        try {
            const body = new Uint8Array([1, 2, 3]), headers = {authorization: key};
            const reply = await fetch(url, {method: 'POST', body, headers});
            const {error} = await reply.json();
            return [reply.status, error.code, reply.headers.get('x-request-id')];
        } catch (error) { return [0, error.name, null]; }
    }"""
    keys = write_keys(tmp_path)
    try:
        async with faking(cors_origin=named, keys_file=keys) as fake, chromium() as browser:
            tab, answers = await browser.new_page(), []
            for url, name in ((named, "shop"), (named, "stranger"), (other, "shop")):
                await tab.goto(url)
                asked = [f"{fake.url}{CLASSIFY}", f"Bearer {secret(name)}"]
                answers.append(await tab.evaluate(ask, asked))
    finally:
        await site.stop()
    (status, code, identity), refused, unread = answers
    assert (status, code) == (415, "unsupported_format")
    assert identity
    assert refused[:2] == [401, "unauthenticated"]
    assert unread == [0, "TypeError", None]


async def test_keys_are_no_cookies(tmp_path: Path) -> None:
    """A page cannot have a browser show what it does not know itself."""
    async with calling(cors_origin="*", keys_file=write_keys(tmp_path)) as session:
        headers = {"origin": OTHER, **bearer("shop")}
        async with session.post(CLASSIFY, data=flat(50), headers=headers) as response:
            assert response.status == 200
            assert response.headers["access-control-allow-origin"] == "*"
            assert "access-control-allow-credentials" not in response.headers
