"""API keys, asked for by one check before REST, gRPC and the Open Inference Protocol."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from protos import oip_pb2 as oip
from protos import oip_pb2_grpc as oip_grpc
from server import door
from server.api import access
from tests.access_lines import access_lines
from tests.doors import bearer, secret, write_keys
from tests.fakes import Fake, faking, flat
from tests.service.oip_asking import request

CLASSIFY = "/v1/classify"


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[Fake]:
    keys = write_keys(tmp_path)
    async with faking(keys_file=keys, priority_levels=3, access_log="all") as fake:
        yield fake


async def post(session: aiohttp.ClientSession, **headers: str) -> tuple[int, Any]:
    """Status, and the code of the error where there is one."""
    async with session.post(CLASSIFY, data=flat(50), headers=headers) as response:
        body = await response.json()
        return response.status, body.get("error", {}).get("code")


def routes(fake: Fake) -> list[web.AbstractRoute]:
    return list(fake.server.http._runner.app.router.routes())


async def test_every_route_asks_for_a_key_but_probes_and_pages(
    fake: Fake, session: aiohttp.ClientSession
) -> None:
    """A new one, too: what is open is a list."""
    answered = set()
    for route in routes(fake):
        assert route.resource
        path = route.resource.canonical
        named = re.sub(r"{\w+}", "1", path.replace("{model}", "tiny").replace("{asset}", "dom.js"))
        async with session.request(route.method, named, data=b"") as response:
            if response.status == 401:
                assert response.headers["www-authenticate"] == "Bearer"
                assert route.method == "HEAD" or "API key" in await response.text()
            else:
                answered.add(path)
    controls = {path for path in access.MANAGEMENT if path.startswith("/v2")}  # refused elsewhere
    assert answered - controls == {
        path for path in access.OPEN if not path.startswith(("/g", "/i"))
    }
    async with session.get("/nowhere") as response:
        assert response.status == 401


async def test_every_grpc_method_asks_for_a_key_but_health(
    fake: Fake, channel: grpc.aio.Channel
) -> None:
    services = pb.DESCRIPTOR.services_by_name, oip.DESCRIPTOR.services_by_name
    methods = [
        f"/{service.full_name}/{method.name}"
        for named in services
        for service in named.values()
        for method in service.methods
    ]
    methods += [
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/nowhere/Nothing",
    ]
    refused = set()
    for method in methods:
        # one message at once, for streams too: where grpc.aio still writes after the refusal has
        # come, it reports INTERNAL in place of it
        ask: Any = channel.unary_unary(method)
        call = ask(b"", timeout=5)
        if await call.code() is grpc.StatusCode.UNAUTHENTICATED:
            refused.add(method)
    assert set(methods) - refused - access.MANAGEMENT == {
        *(path for path in access.OPEN if path in methods)
    }
    assert len(refused) >= 12


@pytest.mark.parametrize(
    "headers",
    [
        bearer("shop"),
        {"authorization": f"bearer  {secret('shop')} "},
        {"x-api-key": secret("shop")},
        {"authorization": "Basic c2hvcDo=", "x-api-key": secret("shop")},
    ],
)
async def test_a_key_opens_both_protocols_and_its_name_is_in_the_log(
    fake: Fake, session: aiohttp.ClientSession, channel: grpc.aio.Channel, headers: dict[str, str]
) -> None:
    with access_lines() as log:
        assert await post(session, **headers) == (200, None)
        metadata = tuple(headers.items())
        photo = pb.ClassifyRequest(image=flat(50))
        own: Any = pb_grpc.ClassifierStub(channel)
        assert (await own.Classify(photo, metadata=metadata)).predictions
        theirs: Any = oip_grpc.GRPCInferenceServiceStub(channel)
        assert (await theirs.ModelInfer(request([flat(50)]), metadata=metadata)).outputs
        streamed = [each async for each in own.ClassifyStream(iter([photo]), metadata=metadata)]
        assert len(streamed) == 1
    assert set(log.of("key", "reason")) == {("shop", "ok")}
    assert secret("shop") not in str(log.lines)


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer wrong"},
        {"x-api-key": "alexnet_shop2"},
        {"authorization": "Bearer wrong", "x-api-key": secret("shop")},
        {"authorization": f"Bearer {'k' * 7000}"},
        {"authorization": "Bearer é"},
    ],
)
async def test_a_key_that_is_not_known_is_refused_and_told_nowhere(
    session: aiohttp.ClientSession, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    assert await post(session, **headers) == (401, "unauthenticated")
    assert "wrong" not in caplog.text


async def test_the_rate_is_of_the_key_over_all_protocols(
    fake: Fake, session: aiohttp.ClientSession, channel: grpc.aio.Channel
) -> None:
    metadata = tuple(bearer("slow").items())
    own: Any = pb_grpc.ClassifierStub(channel)
    photo = pb.ClassifyRequest(image=flat(50))
    assert (await own.Classify(photo, metadata=metadata)).predictions
    assert await post(session, **bearer("slow")) == (200, None)
    async with session.post(CLASSIFY, data=flat(0), headers=bearer("slow")) as response:
        error = (await response.json())["error"]
        assert (response.status, error["code"]) == (429, "rate_limited")
        assert 0 < error["retry_after_ms"] <= 500
        assert response.headers["Retry-After"] == "1"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await own.Classify(photo, metadata=metadata)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "grpc-retry-pushback-ms" in dict(refused.value.trailing_metadata() or ())
    (answer,) = [each async for each in own.ClassifyStream(iter([photo]), metadata=metadata)]
    assert answer.failure.reason == "rate_limited"
    assert await post(session, **bearer("shop")) == (200, None)  # another key has its own


async def test_the_photos_of_a_form_are_owed(session: aiohttp.ClientSession) -> None:
    form = aiohttp.FormData()
    for _ in range(6):
        form.add_field("file", flat(50), filename="photo.png")
    async with session.post(CLASSIFY, data=form, headers=bearer("slow")) as response:
        assert response.status == 200
    async with session.post(CLASSIFY, data=flat(0), headers=bearer("slow")) as response:
        error = (await response.json())["error"]
        assert error["code"] == "rate_limited"
        assert 1500 < error["retry_after_ms"] <= 2500  # 7 photos at 2 a second, 2 at once


async def test_a_key_names_no_higher_priority_and_no_other_version(
    session: aiohttp.ClientSession,
) -> None:
    higher = bearer("humble") | {"x-request-priority": "1"}
    assert await post(session, **higher) == (403, "forbidden")
    lower = bearer("humble") | {"x-request-priority": "3"}
    assert await post(session, **lower) == (200, None)
    assert await post(session, **bearer("narrow")) == (403, "forbidden")


@pytest.mark.parametrize(
    ("allowed", "key", "status"),
    [
        ("off", "admin", 403),
        ("local", "", 200),  # the loopback
        ("local", "shop", 200),
        ("key", "", 401),
        ("key", "shop", 403),
        ("key", "admin", 200),
    ],
)
async def test_loads_are_for_keys_that_may(
    tmp_path: Path, allowed: str, key: str, status: int
) -> None:
    keys = write_keys(tmp_path)
    async with (
        faking(keys_file=keys, repository_control=allowed) as fake,
        aiohttp.ClientSession(fake.url) as session,
        grpc.aio.insecure_channel(fake.target) as channel,
    ):
        headers = bearer(key) if key else {}
        path = "/v2/repository/models/tiny/load"
        async with session.post(path, headers=headers) as response:
            assert response.status == status
        stub: Any = oip_grpc.GRPCInferenceServiceStub(channel)
        call = stub.RepositoryModelLoad(
            oip.RepositoryModelLoadRequest(model_name="tiny"), metadata=tuple(headers.items())
        )
        wanted = {200: "OK", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"}
        assert (await call.code()).name == wanted[status]


async def test_a_key_that_is_taken_away_is_refused_at_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "LOOK_S", 0.02)
    async with (
        faking(keys_file=write_keys(tmp_path)) as fake,
        aiohttp.ClientSession(fake.url) as session,
        asyncio.timeout(10),
    ):
        assert await post(session, **bearer("shop")) == (200, None)
        await asyncio.to_thread(write_keys, tmp_path, "admin")
        while await post(session, **bearer("shop")) != (401, "unauthenticated"):
            await asyncio.sleep(0.02)
        assert await post(session, **bearer("admin")) == (200, None)


async def test_metrics_ask_for_no_key(fake: Fake) -> None:
    async with (
        aiohttp.ClientSession(fake.private_url) as session,
        session.get("/metrics") as response,
    ):
        assert response.status == 200
