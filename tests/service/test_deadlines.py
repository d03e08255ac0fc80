"""One deadline inside, whatever it is called outside; a request that must miss it is told so."""

import asyncio
import time
from typing import Any

import aiohttp
import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from server.scheduler.costs import CostModel
from tests.fakes import Fake, faking, flat


def slow(fake: Fake, infer_ms: float) -> None:
    """From now on a run of the engine is believed to take so long."""
    costs = CostModel({1: infer_ms, 64: infer_ms}, {"JPEG": (0.1, 0.0)})
    pipeline = fake.pipeline
    pipeline.costs = pipeline.batcher._costs = pipeline.estimate._costs = costs


async def ask(session: aiohttp.ClientSession, timeout_ms: int) -> tuple[int, dict[str, Any], Any]:
    headers = {"x-request-timeout-ms": str(timeout_ms)}
    async with session.post("/v1/classify", data=flat(50), headers=headers) as response:
        return response.status, await response.json(), response.headers


async def backlog(fake: Fake, session: aiohttp.ClientSession) -> list["asyncio.Task[Any]"]:
    """One photo in the engine and three in the queue, of 450 ms each: the next would not be
    answered within two seconds."""
    tasks = []
    for i in range(4):
        tasks.append(asyncio.create_task(ask(session, 2000)))
        await fake.until_in_flight(i + 1)
        async with asyncio.timeout(5):
            while fake.count("alexnet_queue_photos", stage="infer") < i:
                await asyncio.sleep(0.001)
    return tasks


async def test_what_cannot_be_answered_in_time_is_refused_at_once_over_rest() -> None:
    async with faking() as fake, aiohttp.ClientSession(fake.url) as session:
        slow(fake, infer_ms=3000)
        start = time.monotonic()
        status, body, headers = await ask(session, 2000)
        assert time.monotonic() - start < 1
        assert (status, body["error"]["code"]) == (504, "would_miss_deadline")
        assert "about 3000 ms here; the deadline was 2000 ms" in body["error"]["message"]
        # More time is the only remedy: coming back later is none.
        assert "retry_after_ms" not in body["error"]
        assert "retry-after" not in headers
        assert fake.engine.batches == []
        count = fake.count(
            "alexnet_requests_total", face="rest", outcome="would_miss_deadline", version="1"
        )
        assert count == 1


async def test_a_request_that_the_backlog_makes_late_is_told_when_to_try_again() -> None:
    async with faking(max_batch_size=1) as fake, aiohttp.ClientSession(fake.url) as session:
        slow(fake, infer_ms=450)
        fake.engine.gate.clear()
        first = await backlog(fake, session)
        status, body, headers = await ask(session, 2000)
        assert (status, body["error"]["code"]) == (504, "would_miss_deadline")
        assert 0 < body["error"]["retry_after_ms"] < 5000
        assert int(headers["retry-after"]) >= 1
        fake.engine.gate.set()
        assert [answer[0] for answer in await asyncio.gather(*first)] == [200] * 4


async def test_over_grpc_the_details_say_when_to_try_again() -> None:
    async with (
        faking(max_batch_size=1) as fake,
        aiohttp.ClientSession(fake.url) as session,
        grpc.aio.insecure_channel(fake.target) as channel,
    ):
        slow(fake, infer_ms=450)
        fake.engine.gate.clear()
        first = await backlog(fake, session)
        stub = pb_grpc.ClassifierStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Classify(pb.ClassifyRequest(image=flat(0)), timeout=2.0)
        error = caught.value
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert dict(error.trailing_metadata() or ())["alexnet-reason"] == "would_miss_deadline"
        status = rpc_status.from_call(error)
        assert status is not None
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        assert status.details[0].Unpack(info)
        assert status.details[1].Unpack(retry)
        assert (info.reason, info.domain) == ("WOULD_MISS_DEADLINE", "alexnet")
        assert 0 < retry.retry_delay.ToMilliseconds() < 5000
        fake.engine.gate.set()
        await asyncio.gather(*first)


async def test_a_hopeless_upload_is_refused_before_it_is_sent() -> None:
    async with faking() as fake, aiohttp.ClientSession(fake.url) as session:
        slow(fake, infer_ms=3000)

        async def upload() -> Any:
            pytest.fail("the body was asked for")
            yield b""

        headers = {"x-request-timeout-ms": "100", "expect": "100-continue", "content-length": "9"}
        async with asyncio.timeout(5):
            async with session.post("/v1/classify", data=upload(), headers=headers) as response:
                assert response.status == 504


async def test_a_deadline_of_a_photo_and_one_of_the_call_are_both_kept() -> None:
    async with faking() as fake, grpc.aio.insecure_channel(fake.target) as channel:
        slow(fake, infer_ms=3000)
        stub = pb_grpc.ClassifierStub(channel)
        for timeout, timeout_ms in ((1.0, 60_000), (60.0, 1000)):
            request = pb.ClassifyRequest(image=flat(0), timeout_ms=timeout_ms)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Classify(request, timeout=timeout)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert fake.engine.batches == []


async def test_a_photo_that_was_admitted_is_not_made_late_by_another() -> None:
    """A photo with an earlier deadline is refused when going first would make another one late."""
    async with faking(max_batch_size=1) as fake, aiohttp.ClientSession(fake.url) as session:
        slow(fake, infer_ms=450)
        fake.engine.gate.clear()
        first = asyncio.create_task(ask(session, 60_000))
        await fake.until_in_flight(1)
        await asyncio.to_thread(fake.engine.started.wait, 5)
        second = asyncio.create_task(ask(session, 1100))
        await fake.until_in_flight(2)
        status, body, _ = await ask(session, 1000)
        assert (status, body["error"]["code"]) == (504, "would_miss_deadline")
        assert "accepted before would be late" in body["error"]["message"]
        fake.engine.gate.set()
        assert (await first)[0] == 200
        assert (await second)[0] == 200


async def test_a_photo_that_is_too_large_for_the_memory_of_all_is_refused_with_a_hint() -> None:
    async with faking(max_photo_bytes=20_000) as fake, aiohttp.ClientSession(fake.url) as session:
        fake.engine.gate.clear()
        first = [asyncio.create_task(ask(session, 60_000)) for _ in range(2)]
        await fake.until_in_flight(2)
        assert fake.count("alexnet_photo_bytes") == 2 * len(flat(50))
        async with session.post("/v1/classify", data=flat(50) + bytes(20_000)) as response:
            body = await response.json()
            assert (response.status, body["error"]["code"]) == (429, "overloaded")
            assert "hold" in body["error"]["message"]
            assert body["error"]["retry_after_ms"] > 0
        fake.engine.gate.set()
        assert [answer[0] for answer in await asyncio.gather(*first)] == [200, 200]
        await fake.until_in_flight(0)
        assert fake.count("alexnet_photo_bytes") == 0


async def test_priorities_are_named_in_each_protocol_and_checked() -> None:
    async with (
        faking(priority_levels=2) as fake,
        aiohttp.ClientSession(fake.url) as session,
        grpc.aio.insecure_channel(fake.target) as channel,
    ):
        stub = pb_grpc.ClassifierStub(channel)
        for priority, status in (("1", 200), ("2", 200), ("3", 400), ("0", 400)):
            headers = {"x-request-priority": priority}
            async with session.post("/v1/classify", data=flat(0), headers=headers) as response:
                assert response.status == status
        assert (await stub.Classify(pb.ClassifyRequest(image=flat(0), priority=1))).predictions
        with pytest.raises(grpc.aio.AioRpcError, match="between 1, the highest, and 2"):
            await stub.Classify(pb.ClassifyRequest(image=flat(0), priority=3))


async def test_the_higher_priority_gets_the_larger_share_and_the_lower_is_not_starved() -> None:
    async with (
        faking(max_batch_size=1, priority_levels=2) as fake,
        aiohttp.ClientSession(fake.url) as session,
    ):
        fake.engine.gate.clear()

        async def ask_with(priority: int, value: int) -> int:
            headers = {"x-request-priority": str(priority)}
            async with session.post("/v1/classify", data=flat(value), headers=headers) as response:
                return response.status

        tasks = [asyncio.create_task(ask_with(2, 0))]
        await asyncio.to_thread(fake.engine.started.wait, 5)
        tasks += [asyncio.create_task(ask_with(2, 25)) for _ in range(10)]
        await fake.until_in_flight(11)
        tasks += [asyncio.create_task(ask_with(1, 50)) for _ in range(10)]
        async with asyncio.timeout(5):
            while fake.count("alexnet_queue_photos", stage="infer") < 20:
                await asyncio.sleep(0.005)
        fake.engine.gate.set()
        assert set(await asyncio.gather(*tasks)) == {200}
        order = [batch[0] for batch in fake.engine.batches]
        assert order[0] == 0
        # Four to one, give or take the one that was in the engine before.
        assert order[1:11].count(50) in (8, 9)
        assert order[1:11].count(25) in (1, 2)
