"""What an unknown sender may try on an open port: bounded, counted, and survived."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from protos import oip_pb2_grpc
from tests.fakes import faking, flat
from tests.uploads import uploading

FOREVER_MS = "999999999"
CLASSIFY = "/v1/classify"


async def test_an_upload_ends_at_the_servers_own_timeout_however_long_its_deadline() -> None:
    async with (
        faking(request_timeout_s=0.2) as fake,
        uploading(fake.url, flat(0), X_Request_Timeout_Ms=FOREVER_MS) as upload,
    ):
        await upload.send(stop=10)
        reply = await upload.reply()
        assert (reply.status, reply.json["error"]["code"]) == (504, "expired")
        assert fake.count("alexnet_requests_in_flight") == 0


async def test_a_call_whose_photo_never_comes_ends_without_a_deadline_of_its_own() -> None:
    async with (
        faking(request_timeout_s=0.2) as fake,
        grpc.aio.insecure_channel(fake.target) as channel,
        asyncio.timeout(10),
    ):
        call: Any = channel.stream_unary("/alexnet.v1.Classifier/Classify")()
        with pytest.raises(grpc.aio.AioRpcError, match="before the photo was here") as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("protocol", ["own", "open"])
async def test_idle_streams_leave_calls_for_others(protocol: str) -> None:
    async with (
        AsyncExitStack() as stack,
        faking(max_queue_size=2) as fake,
        grpc.aio.insecure_channel(fake.target) as channel,
        asyncio.timeout(10),
    ):
        photos = pb_grpc.ClassifierStub(channel)
        tensors = oip_pb2_grpc.GRPCInferenceServiceStub(channel)
        method: Any = photos.ClassifyStream if protocol == "own" else tensors.ModelStreamInfer
        for _ in range(2):
            call = method()
            stack.callback(call.cancel)
        while fake.service.gate._streams < 2:
            await asyncio.sleep(0.005)
        refused = method()
        assert await refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "streams are taken" in (await refused.details() or "")
        assert (await photos.Classify(pb.ClassifyRequest(image=flat(50)))).predictions
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    "header", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}]
)
async def test_a_page_in_a_browser_here_is_not_this_machine(header: dict[str, str]) -> None:
    """A browser sends such a POST for any page, without asking the server first."""
    async with (
        faking(repository_control="local") as fake,
        aiohttp.ClientSession(fake.url) as session,
    ):
        path = "/v2/repository/models/tiny/unload"
        async with session.post(path, headers=header) as response:
            assert response.status == 403
        assert fake.service.ready
        async with session.post(path) as response:
            assert response.status == 200
        assert not fake.service.ready


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"no HTTP at all\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\nhost: localhost\r\nexpect: nonsense\r\n\r\n", b"200"),
    ],
)
async def test_the_versions_of_the_libraries_are_not_told(sent: bytes, status: bytes) -> None:
    async with faking() as fake, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", fake.server.http.port)
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
    assert head.split()[1] == status
    assert b"server: alexnet-server\r\n" in head.lower()
    assert b"aiohttp" not in head


@pytest.mark.parametrize("header", ["X-Request-Priority", "X-Request-Timeout-Ms"])
async def test_a_number_with_two_signs_is_refused(header: str) -> None:
    async with (
        faking() as fake,
        aiohttp.ClientSession(fake.url) as session,
        session.post(CLASSIFY, data=flat(0), headers={header: "--1"}) as response,
    ):
        assert response.status == 400
        assert "must be a whole number" in (await response.json())["error"]["message"]
