"""Where a photo's time went: each stage has what happened in it, and no other stage has it too."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import grpc
import pytest

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from server.scheduler import decoder
from tests.fakes import Fake, faking, flat
from tests.uploads import uploading

SLOW_S = 0.2
"""What a stage is made to take."""
STAGES = ("upload", "decode_queue", "decode", "batch_queue", "infer")


def form(photo: bytes) -> bytes:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    return head + photo + b"\r\n--x--\r\n"


async def over_rest(fake: Fake, body: bytes, content_type: str) -> dict[str, float]:
    async with uploading(fake.url, body, content_type) as upload:
        await upload.send(stop=-1)
        await fake.until_in_flight(1)
        await asyncio.sleep(SLOW_S)
        await upload.send(start=-1)
        times: dict[str, float] = (await upload.reply()).json["timing_ms"]
    return times


async def raw(fake: Fake) -> dict[str, float]:
    return await over_rest(fake, flat(50), "image/png")


async def multipart(fake: Fake) -> dict[str, float]:
    return await over_rest(fake, form(flat(50)), "multipart/form-data; boundary=x")


async def over_grpc(fake: Fake) -> dict[str, float]:
    """The call begins, and its message comes later."""
    async with grpc.aio.insecure_channel(fake.target) as channel:
        method: Any = channel.stream_unary(
            "/alexnet.v1.Classifier/Classify",
            request_serializer=pb.ClassifyRequest.SerializeToString,
            response_deserializer=pb.ClassifyResponse.FromString,
        )
        call = method()
        await fake.until_in_flight(1)
        await asyncio.sleep(SLOW_S)
        await call.write(pb.ClassifyRequest(image=flat(50)))
        await call.done_writing()
        timing = (await call).timing
    return {stage: getattr(timing, f"{stage}_ms") for stage in (*STAGES, "queue", "total")}


def check(times: dict[str, float], slow: str, least_s: float) -> None:
    """The slow stage has its time, the others share what is left of the total."""
    others = sum(times[stage] for stage in STAGES if stage != slow)
    assert times[slow] >= 1000 * least_s
    assert times["total"] >= times[slow] + others - 0.01
    assert times["queue"] == pytest.approx(times["decode_queue"] + times["batch_queue"], abs=0.002)


def seconds(fake: Fake, stage: str) -> float:
    return fake.count("alexnet_request_duration_seconds_sum", stage=stage, version="1")


@pytest.mark.parametrize("ask", [raw, multipart, over_grpc])
async def test_a_slow_upload_is_the_callers_and_no_queue(ask: Callable[[Fake], Any]) -> None:
    async with faking() as fake:
        start = time.monotonic()
        times = await ask(fake)
        took_s = time.monotonic() - start
        check(times, "upload", SLOW_S)
        assert times["queue"] + times["decode"] + times["infer"] <= 1000 * (took_s - SLOW_S)
        await fake.until_in_flight(0)
        assert seconds(fake, "upload") >= SLOW_S
        assert seconds(fake, "total") >= sum(seconds(fake, stage) for stage in STAGES) - 1e-5
        assert fake.count("nv_inference_queue_duration_us", model="tiny") < 1e6 * (took_s - SLOW_S)
        assert fake.count("nv_inference_request_duration_us", model="tiny") >= 1e6 * SLOW_S


async def test_a_photo_that_comes_with_its_request_has_no_upload() -> None:
    """A message of a stream is read before its request is admitted."""
    async with faking() as fake, grpc.aio.insecure_channel(fake.target) as channel:
        call = pb_grpc.ClassifierStub(channel).ClassifyStream()
        await call.write(pb.ClassifyRequest(image=flat(50)))
        await call.done_writing()
        (answer,) = [answer async for answer in call]
        assert answer.response.timing.upload_ms == 0


def soon(fake: Fake, stage: str) -> float:
    """Photos that were in this stage for less than a slow one takes."""
    return fake.count("alexnet_request_duration_seconds_bucket", stage=stage, le="0.128")


async def classified(fake: Fake, query: str) -> dict[str, float]:
    async with (
        aiohttp.ClientSession(fake.url) as session,
        session.post(f"/v1/classify?{query}", data=flat(50)) as response,
    ):
        times: dict[str, float] = (await response.json())["timing_ms"]
        return times


async def test_the_decoding_of_ten_views_is_no_waiting_for_the_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of ten views the metrics had it as a batch queue, by which servers are added."""
    real = decoder.preprocess

    def slow(*arguments: Any) -> Any:
        time.sleep(SLOW_S)
        return real(*arguments)

    monkeypatch.setattr(decoder, "preprocess", slow)
    async with faking(max_batch_size=16) as fake:
        check(await classified(fake, "views=10"), "decode", SLOW_S)
        await fake.until_in_flight(0)
        assert seconds(fake, "decode") >= 10 * SLOW_S
        assert soon(fake, "batch_queue") > 0
        assert seconds(fake, "total") >= sum(seconds(fake, stage) for stage in STAGES) - 1e-5


@pytest.mark.parametrize("query", ["explain=occlusion", "views=10&explain=occlusion"])
async def test_the_first_answer_is_no_waiting_of_the_crops_that_explain_it(query: str) -> None:
    first = 10 if "views" in query else 1
    async with faking(max_batch_size=16) as fake:
        fake.engine.gate.clear()
        asked = asyncio.create_task(classified(fake, query))
        assert await asyncio.to_thread(fake.engine.started.wait, 5)
        await asyncio.sleep(SLOW_S)
        fake.engine.gate.set()
        await asked
        await fake.until_in_flight(0)
        assert soon(fake, "batch_queue") > first
        assert seconds(fake, "total") >= sum(seconds(fake, stage) for stage in STAGES) - 1e-5


@pytest.mark.parametrize("most", [16, 64])
async def test_the_time_of_an_explanation_is_in_the_answer(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    async with faking(max_batch_size=most) as fake:
        real = fake.engine.run

        def slow(*arguments: Any) -> Any:
            time.sleep(SLOW_S)
            return real(*arguments)

        monkeypatch.setattr(fake.engine, "run", slow)
        check(await classified(fake, "explain=occlusion"), "infer", 2 * SLOW_S)


@asynccontextmanager
async def waiting(
    fake: Fake, stage: str, count: int
) -> AsyncIterator[list[asyncio.Task[dict[str, float]]]]:
    """Five photos, of which so many have waited in the queue before this stage for `SLOW_S`."""
    async with aiohttp.ClientSession(fake.url) as session:

        async def ask() -> dict[str, float]:
            async with session.post("/v1/classify", data=flat(50)) as response:
                times: dict[str, float] = (await response.json())["timing_ms"]
                return times

        tasks = [asyncio.create_task(ask()) for _ in range(5)]
        async with asyncio.timeout(5):
            while fake.count("alexnet_queue_photos", stage=stage) < count:
                await asyncio.sleep(0.005)
        await asyncio.sleep(SLOW_S)
        yield tasks


def check_each(times: list[dict[str, float]], queue: str, stage: str, count: int) -> None:
    """So many waited in the queue while the others were in the stage behind it."""
    waited = [each for each in times if each[queue] >= 1000 * SLOW_S]
    assert len(waited) == count
    for each in times:
        check(each, queue if each in waited else stage, SLOW_S)


async def test_waiting_for_a_decoder_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, real = threading.Event(), decoder.preprocess

    def held(*arguments: Any) -> Any:
        assert gate.wait(10)
        return real(*arguments)

    monkeypatch.setattr(decoder, "preprocess", held)
    async with faking(max_batch_size=8) as fake:
        async with waiting(fake, "decode", 3) as tasks:
            assert fake.count("alexnet_queue_photos", stage="infer") == 0
            gate.set()
            times = await asyncio.gather(*tasks)
        check_each(times, "decode_queue", "decode", 3)
        assert seconds(fake, "decode_queue") >= 3 * SLOW_S


async def test_waiting_for_the_engine_is_told_apart() -> None:
    async with faking(max_batch_size=1) as fake:
        fake.engine.gate.clear()
        async with waiting(fake, "infer", 4) as tasks:
            assert fake.count("alexnet_queue_photos", stage="decode") == 0
            fake.engine.gate.set()
            times = await asyncio.gather(*tasks)
        check_each(times, "batch_queue", "infer", 4)
        assert seconds(fake, "batch_queue") >= 4 * SLOW_S
