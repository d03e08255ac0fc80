"""Hundreds of requests of every kind at once: each gets its own answer, and all are accounted for.

The dice are seeded; how the requests interleave is up to the sockets.
"""

import asyncio
import random
from collections import Counter
from typing import Any

import aiohttp
import grpc
import pytest

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from tests.fakes import Fake, faking, flat

PHOTOS = {value: flat(value) for value in range(0, 250, 10)}
REQUESTS, PATIENCE = 300, 20

# What a caller may see besides the right answer.
FAIR = {"overloaded", "expired", "would_miss_deadline", "cancelled", "engine"}


async def ask_rest(session: aiohttp.ClientSession, value: int, timeout_ms: int) -> str | int:
    headers = {"x-request-timeout-ms": str(timeout_ms)}
    async with session.post("/v1/classify", data=PHOTOS[value], headers=headers) as response:
        body = await response.json()
        if response.status != 200:
            return str(body["error"]["code"])
        return int(body["predictions"][0]["index"])


async def ask_grpc(stub: Any, value: int, timeout_ms: int) -> str | int:
    try:
        reply = await stub.Classify(
            pb.ClassifyRequest(image=PHOTOS[value]), timeout=timeout_ms / 1000
        )
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return "expired"
        return str(dict(error.trailing_metadata() or ()).get("alexnet-reason", error))
    return int(reply.predictions[0].index)


async def wave(
    fake: Fake, session: aiohttp.ClientSession, stub: Any, dice: random.Random
) -> list[tuple[int, str | int]]:
    """Sends many requests together, cancels some of them, and lets the engine fail now and then."""
    values = [dice.choice(list(PHOTOS)) for _ in range(REQUESTS)]
    tasks: list[asyncio.Task[str | int]] = []
    for value in values:
        timeout_ms = dice.choice([20, 20_000, 20_000, 20_000])
        ask = ask_rest(session, value, timeout_ms)
        if dice.random() < 0.5:
            ask.close()
            ask = ask_grpc(stub, value, timeout_ms)
        tasks.append(asyncio.create_task(ask))
        for _ in range(dice.randrange(12)):
            await asyncio.sleep(0)  # let the others get ahead
        if dice.random() < 0.3:
            dice.choice(tasks[-20:]).cancel()
        fake.engine.fail = dice.random() < 0.1
        if dice.random() < 0.1:
            fake.engine.gate.clear()  # a jam
        elif dice.random() < 0.1:
            fake.engine.gate.set()
    fake.engine.fail = False
    fake.engine.gate.set()
    async with asyncio.timeout(PATIENCE):
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    seen: list[tuple[int, str | int]] = []
    for value, answer in zip(values, answers, strict=True):
        if isinstance(answer, asyncio.CancelledError):
            answer = "cancelled"
        assert isinstance(answer, str | int), answer
        seen.append((value, answer))
    return seen


@pytest.mark.parametrize("seed", range(3))
async def test_every_answer_belongs_to_its_photo_and_every_request_is_counted_once(
    seed: int,
) -> None:
    dice = random.Random(seed)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        faking(max_batch_size=dice.choice([1, 3, 8]), max_queue_size=20) as fake,
        aiohttp.ClientSession(fake.url, connector=connector) as session,
        grpc.aio.insecure_channel(fake.target) as channel,
    ):
        seen = await wave(fake, session, pb_grpc.ClassifierStub(channel), dice)
        for value, answer in seen:
            assert answer in FAIR or answer == value // 25, (value, answer)
        kinds = Counter(answer if isinstance(answer, str) else "ok" for _, answer in seen)
        assert kinds["ok"] > REQUESTS / 10
        assert kinds["cancelled"] > 0

        await fake.until_in_flight(0)
        assert fake.count("alexnet_queue_photos") == 0
        assert await ask_rest(session, 70, 20_000) == 2

        outcomes: Counter[str] = Counter()
        for family in fake.server.metrics.registry.collect():
            for sample in family.samples:
                if sample.name == "alexnet_requests_total":
                    outcomes[sample.labels["outcome"]] += int(sample.value)
        assert (+outcomes).keys() <= FAIR | {"ok"}
        # What was cancelled may never have arrived, or may have been answered already.
        assert kinds["ok"] + 1 <= outcomes["ok"]
        assert outcomes.total() <= REQUESTS + 1
        assert outcomes.total() >= REQUESTS + 1 - kinds["cancelled"] - kinds["expired"]
        in_batches = sum(len(batch) for batch in fake.engine.batches)
        dropped = sum(
            fake.count("alexnet_dropped_total", reason=reason)
            for reason in ("expired", "would_miss_deadline", "cancelled")
        )
        assert in_batches + dropped <= outcomes.total() - outcomes["overloaded"]
        photos = fake.count("alexnet_photos_total", outcome="ok")
        assert outcomes["ok"] <= photos <= outcomes["ok"] + outcomes["cancelled"]
        assert (
            fake.count("nv_inference_request_success", model="tiny", version="1")
            == (outcomes["ok"])
        )
