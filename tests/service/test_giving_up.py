"""Callers who no longer wait: past their deadline or gone, they never cost the engine anything."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import grpc
import pytest

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from tests.fakes import Fake, faking, flat
from tests.uploads import uploading

FIRST, LATE, LAST = 250, 100, 25
PATIENT = {"x-request-timeout-ms": "9000"}


@asynccontextmanager
async def busy(**settings: Any) -> AsyncIterator[tuple[Fake, aiohttp.ClientSession, Any]]:
    """The engine holds one photo, FIRST; afterwards it has seen that one and LAST and no other."""
    async with (
        faking(**settings) as fake,
        aiohttp.ClientSession(fake.url) as session,
        grpc.aio.insecure_channel(fake.target) as channel,
    ):
        fake.engine.gate.clear()
        first = asyncio.create_task(status_of(session, FIRST, PATIENT))
        assert await asyncio.to_thread(fake.engine.started.wait, 5)
        yield fake, session, pb_grpc.ClassifierStub(channel)
        await fake.until_in_flight(1)
        fake.engine.gate.set()
        assert await first == 200
        assert await status_of(session, LAST, PATIENT) == 200
        assert fake.engine.batches == [[FIRST], [LAST]]


async def status_of(
    session: aiohttp.ClientSession, value: int, headers: dict[str, str] | None = None
) -> int:
    async with session.post("/v1/classify", data=flat(value), headers=headers) as response:
        return response.status


async def until_queued(fake: Fake, count: int) -> None:
    async with asyncio.timeout(5):
        while fake.count("alexnet_queue_photos") != count:
            await asyncio.sleep(0.005)


async def test_the_deadline_of_a_rest_request_is_kept() -> None:
    async with busy() as (fake, session, _):
        headers = {"x-request-timeout-ms": "50"}
        async with session.post("/v1/classify", data=flat(LATE), headers=headers) as response:
            assert response.status == 504
            error = (await response.json())["error"]
        assert error["code"] == "expired"
        assert "the deadline passed after" in error["message"]
        assert fake.count("alexnet_requests_total", face="rest", outcome="expired") == 1


async def test_the_deadline_of_a_grpc_call_is_kept() -> None:
    async with busy() as (fake, _, stub):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Classify(pb.ClassifyRequest(image=flat(LATE)), timeout=0.1)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await fake.until_in_flight(1)


async def test_a_request_that_names_no_deadline_has_the_servers() -> None:
    async with busy(request_timeout_s=0.1) as (_, session, stub):
        assert await status_of(session, LATE) == 504
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Classify(pb.ClassifyRequest(image=flat(LATE)))
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert dict(caught.value.trailing_metadata() or ())["alexnet-reason"] == "expired"


async def test_a_caller_may_be_more_patient_than_the_server() -> None:
    async with (
        faking(request_timeout_s=0.1) as fake,
        aiohttp.ClientSession(fake.url) as session,
        grpc.aio.insecure_channel(fake.target) as channel,
    ):
        fake.engine.gate.clear()
        request = pb.ClassifyRequest(image=flat(FIRST))
        call = pb_grpc.ClassifierStub(channel).Classify(request, timeout=9)
        await fake.until_in_flight(1)
        assert await status_of(session, LATE) == 504, "the server's own deadline has passed"
        fake.engine.gate.set()
        assert (await call).predictions[0].index == 9


async def test_a_timeout_of_nothing_is_expired_before_anything_is_done() -> None:
    async with busy() as (_, session, _):
        assert await status_of(session, LATE, {"x-request-timeout-ms": "0"}) == 504


async def test_what_expired_in_the_queue_is_counted_as_expired() -> None:
    async with busy() as (fake, session, _):
        late = asyncio.create_task(status_of(session, LATE, {"x-request-timeout-ms": "500"}))
        await until_queued(fake, 1)
        assert await late == 504
    assert fake.count("alexnet_dropped_total", reason="expired") == 1
    assert fake.count("alexnet_dropped_total", reason="cancelled") == 0


async def test_the_deadline_holds_while_the_photo_is_uploaded() -> None:
    """Or a few senders who never finish would take every place for ever."""
    async with busy() as (fake, _, _), uploading(
        fake.url, flat(LATE), x_request_timeout_ms="100"
    ) as slow:  # fmt: skip
        await slow.send(stop=20)
        reply = await slow.reply()
        assert (reply.status, reply.json["error"]["code"]) == (504, "expired")


async def test_a_caller_who_hangs_up_leaves_the_queue() -> None:
    async with busy() as (fake, session, _):
        task = asyncio.create_task(status_of(session, LATE))
        await until_queued(fake, 1)
        task.cancel()
        await fake.until_in_flight(1)
        assert fake.count("alexnet_requests_total", face="rest", outcome="cancelled") == 1
    assert fake.count("alexnet_dropped_total", reason="cancelled") == 1


async def test_a_cancelled_grpc_call_leaves_the_queue() -> None:
    async with busy() as (fake, _, stub):
        call = stub.Classify(pb.ClassifyRequest(image=flat(LATE)))
        await until_queued(fake, 1)
        call.cancel()
        await fake.until_in_flight(1)
        assert fake.count("alexnet_requests_total", face="grpc", outcome="cancelled") == 1
    assert fake.count("alexnet_dropped_total", reason="cancelled") == 1


async def test_a_closed_channel_takes_all_its_calls_out_of_the_queue() -> None:
    async with busy() as (fake, _, _):
        async with grpc.aio.insecure_channel(fake.target) as channel:
            stub = pb_grpc.ClassifierStub(channel)
            calls = [stub.Classify(pb.ClassifyRequest(image=flat(LATE))) for _ in range(5)]
            await until_queued(fake, 5)
        await fake.until_in_flight(1)
        assert all(call.cancelled() for call in calls)


async def test_an_upload_that_breaks_off_gives_its_place_back() -> None:
    async with busy() as (fake, _, _):
        async with uploading(fake.url, flat(LATE)) as broken:
            await broken.send(stop=20)
            await fake.until_in_flight(2)
        await fake.until_in_flight(1)
