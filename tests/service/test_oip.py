"""Requests of many photos in the scheduler, over both faces of the Open Inference Protocol."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import grpc
import pytest

from protos import oip_pb2 as pb
from protos import oip_pb2_grpc as pb_grpc
from server.service import State
from tests.fakes import Fake, faking, flat
from tests.service.oip_asking import Refused, ask, body, classes, request

FACES = ("rest", "grpc")
SHADES = [0, 100, 200]
INFER = "/v2/models/tiny/infer"


@asynccontextmanager
async def busy(**settings: Any) -> AsyncIterator[Fake]:
    """The engine holds one photo until the block ends."""
    async with faking(**settings) as fake:
        fake.engine.gate.clear()
        first = asyncio.create_task(ask("grpc", fake, [flat(250)]))
        assert await asyncio.to_thread(fake.engine.started.wait, 5)
        yield fake
        fake.engine.gate.set()
        assert await first == [9]


async def until_queued(fake: Fake, count: int) -> None:
    """Waits until exactly so many photos wait for the engine."""
    async with asyncio.timeout(5):
        while fake.count("alexnet_queue_photos", stage="infer") != count:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("face", FACES)
async def test_photos_of_a_request_are_answered_in_its_order(face: str) -> None:
    async with faking() as fake:
        assert await ask(face, fake, [flat(shade) for shade in SHADES]) == [0, 4, 8]


@pytest.mark.parametrize("face", FACES)
async def test_photos_of_requests_share_batches_and_are_counted_apart(face: str) -> None:
    async with busy(max_batch_size=4) as fake:
        pair = asyncio.create_task(ask(face, fake, [flat(0), flat(100)]))
        single = asyncio.create_task(ask(face, fake, [flat(200)]))
        await until_queued(fake, 3)
        fake.engine.gate.set()
        assert await pair == [0, 4]
        assert await single == [8]
        await fake.until_in_flight(0)
    assert sorted(fake.engine.batches[1]) == SHADES
    counted = fake.server.metrics.counts["tiny", "1"]
    assert (counted.photos, counted.success.count, counted.executions) == (4, 3, 2)
    assert {size: runs.count for size, runs in counted.batches.items()} == {1: 1, 3: 1}
    assert fake.server.metrics.counts["tiny_pixels", "1"].executions == 0


@pytest.mark.parametrize("face", FACES)
async def test_one_bad_photo_fails_its_own_request_only_and_is_named(face: str) -> None:
    async with faking() as fake:
        bad = asyncio.create_task(ask(face, fake, [flat(0), b"no photo", flat(0)]))
        assert await ask(face, fake, [flat(100)] * 4) == [4] * 4
        with pytest.raises(Refused, match="photo 1: ") as caught:
            await bad
        assert caught.value.status in ("415", "INVALID_ARGUMENT")
        assert fake.server.metrics.counts["tiny", "1"].fail.count == 1


@pytest.mark.parametrize(("face", "status"), [("rest", "504"), ("grpc", "DEADLINE_EXCEEDED")])
async def test_a_timeout_in_microseconds_is_a_deadline(face: str, status: str) -> None:
    async with busy() as fake:
        with pytest.raises(Refused) as caught:
            await ask(face, fake, [flat(0)] * 2, timeout=50_000)
        assert caught.value.status == status
        await fake.until_in_flight(1)
        await until_queued(fake, 0)


async def test_over_rest_headers_say_the_same_as_parameters() -> None:
    data, headers = body([flat(0)])
    async with (
        busy(max_batch_size=1, priority_levels=2) as fake,
        aiohttp.ClientSession(fake.url) as session,
    ):
        short = {**headers, "X-Request-Timeout-Ms": "50"}
        async with session.post(INFER, data=data, headers=short) as response:
            assert response.status == 504
        low = asyncio.create_task(ask("rest", fake, [flat(0)]))
        await until_queued(fake, 1)
        data, headers = body([flat(200)])
        urgent = {**headers, "X-Request-Priority": "1"}
        high = asyncio.create_task(session.post(INFER, data=data, headers=urgent))
        await until_queued(fake, 2)
        fake.engine.gate.set()
        assert (await high).status == 200
        assert await low == [0]
    assert fake.engine.batches[1] == [200]


@pytest.mark.parametrize("face", FACES)
async def test_a_timeout_may_be_longer_than_the_servers(
    face: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over REST it stands in the body, which is read before the server's own could refuse it."""
    async with faking(request_timeout_s=0.5) as fake:
        costs = fake.pipeline.costs
        monkeypatch.setattr(costs, "infer_s", lambda n: 2.0)
        monkeypatch.setattr(costs, "largest", lambda n, seconds: n)
        assert await ask(face, fake, [flat(0)], timeout=60_000_000) == [0]
        with pytest.raises(Refused, match="the deadline was 500 ms"):
            await ask(face, fake, [flat(0)])


@pytest.mark.parametrize(("face", "label"), [("rest", "oip-rest"), ("grpc", "oip-grpc")])
async def test_what_is_wrong_with_the_schedule_is_counted(face: str, label: str) -> None:
    async with faking() as fake:
        with pytest.raises(Refused, match="'timeout' must be a whole number"):
            await ask(face, fake, [flat(0)], timeout=-1)
        wrong = fake.count("alexnet_requests_total", face=label, outcome="invalid_argument")
        assert wrong == 1
        assert fake.server.metrics.counts["tiny", "1"].fail.count == 1


@pytest.mark.parametrize("face", FACES)
async def test_a_higher_priority_is_answered_first(face: str) -> None:
    async with busy(max_batch_size=1, priority_levels=2) as fake:
        low = [asyncio.create_task(ask(face, fake, [flat(0)], priority=2)) for _ in range(2)]
        await until_queued(fake, 2)
        high = asyncio.create_task(ask(face, fake, [flat(200)], priority=1))
        await until_queued(fake, 3)
        fake.engine.gate.set()
        assert await asyncio.gather(*low, high) == [[0], [0], [8]]
    assert fake.engine.batches[1] == [200]


@pytest.mark.parametrize(("face", "status"), [("rest", "429"), ("grpc", "RESOURCE_EXHAUSTED")])
async def test_a_full_server_refuses_with_a_hint(face: str, status: str) -> None:
    async with busy(max_queue_size=1) as fake:
        with pytest.raises(Refused, match="places are taken") as caught:
            await ask(face, fake, [flat(0)])
        assert (caught.value.status, caught.value.retry) == (status, True)


@pytest.mark.parametrize(("face", "status"), [("rest", "500"), ("grpc", "INTERNAL")])
async def test_an_engine_that_fails_tells_no_secret(face: str, status: str) -> None:
    async with faking() as fake:
        fake.engine.fail = True
        with pytest.raises(Refused, match="internal error") as caught:
            await ask(face, fake, [flat(0)] * 3)
        assert caught.value.status == status
        assert "secret" not in caught.value.message


@pytest.mark.parametrize("face", FACES)
async def test_a_request_whose_caller_hangs_up_leaves_the_queue_with_all_photos(face: str) -> None:
    async with busy() as fake:
        asked = asyncio.create_task(ask(face, fake, [flat(0)] * 3))
        await until_queued(fake, 3)
        asked.cancel()
        await until_queued(fake, 0)
    assert fake.engine.batches == [[250]]


async def test_a_server_that_leaves_is_live_but_not_ready() -> None:
    async with (
        faking() as fake,
        aiohttp.ClientSession(fake.url) as session,
        grpc.aio.insecure_channel(fake.target) as channel,
    ):
        fake.service.state = State.LEAVING
        for path, status in (
            ("health/live", 200),
            ("health/ready", 503),
            ("models/tiny/ready", 503),
        ):
            async with session.get(f"/v2/{path}") as response:
                assert response.status == status, path
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        assert (await stub.ServerLive(pb.ServerLiveRequest())).live
        assert not (await stub.ServerReady(pb.ServerReadyRequest())).ready
        assert not (await stub.ModelReady(pb.ModelReadyRequest(name="tiny"))).ready
        assert await ask("rest", fake, [flat(0)]) == [0]


async def test_a_stream_is_answered_in_order_though_later_photos_are_ready_first() -> None:
    async with faking() as fake, grpc.aio.insecure_channel(fake.target) as channel:
        call = pb_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer()
        asked = [[flat(0)] * 4, [b"no photo"], [flat(100)]]
        for i, images in enumerate(asked):
            question = request(images)
            question.id = str(i)
            await call.write(question)
        await call.done_writing()
        answers = [answer async for answer in call]
    assert [answer.infer_response.id for answer in answers] == ["0", "1", "2"]
    assert [bool(answer.error_message) for answer in answers] == [False, True, False]
    assert classes(answers[0].infer_response) == [0] * 4
    assert classes(answers[2].infer_response) == [4]


async def test_a_stream_that_is_cancelled_leaves_the_queue() -> None:
    async with busy() as fake, grpc.aio.insecure_channel(fake.target) as channel:
        call = pb_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer()
        for _ in range(3):
            await call.write(request([flat(0)]))
        await until_queued(fake, 3)
        call.cancel()
        await until_queued(fake, 0)
        await fake.until_in_flight(1)


async def test_the_upload_counts_before_it_is_read() -> None:
    data, headers = body([flat(0)])
    async with busy(max_photo_bytes=4000) as fake, aiohttp.ClientSession(fake.url) as session:
        big = data + bytes(4000)
        async with session.post("/v2/models/tiny/infer", data=big, headers=headers) as response:
            assert response.status == 429
            assert "Retry-After" in response.headers
