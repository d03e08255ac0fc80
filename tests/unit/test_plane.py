"""Thousands of requests through the plane, in every mood: nothing is mixed up, nothing is lost."""

import asyncio
import random
from collections import Counter

import pytest

from server.errors import (
    EngineFailure,
    Expired,
    Overloaded,
    ServeError,
    UnsupportedImage,
    WouldMiss,
)
from tests.fakes import Fake, faking, flat

REQUESTS = 3000
PHOTOS = {value: flat(value) for value in range(0, 250, 10)}
FAIR = (Overloaded, Expired, WouldMiss, EngineFailure)


async def ask(fake: Fake, value: int, timeout_s: float, level: int) -> int:
    """A value of -1 sends what is no photo."""
    image = PHOTOS[value] if value >= 0 else b"no photo"
    with fake.plane.admit("test", timeout_s, priority=level) as admission:
        return (await fake.plane.classify(image, admission)).predictions[0].index


@pytest.mark.parametrize("seed", range(3))
async def test_every_answer_belongs_to_its_photo_whatever_happens_to_the_others(seed: int) -> None:
    dice = random.Random(seed)
    async with faking(
        max_batch_size=dice.choice([1, 4, 16]), max_queue_size=200, priority_levels=3
    ) as fake:
        values = [dice.choice([-1, *PHOTOS, *PHOTOS]) for _ in range(REQUESTS)]
        tasks: list[asyncio.Task[int]] = []
        for value in values:
            timeout_s = dice.choice([0.005, 0.05, 30.0, 30.0, 30.0])
            tasks.append(asyncio.create_task(ask(fake, value, timeout_s, dice.randint(1, 3))))
            if dice.random() < 0.2:
                dice.choice(tasks[-50:]).cancel()
            if dice.random() < 0.01:  # the engine jams, fails, and recovers
                fake.engine.gate.clear()
            elif dice.random() < 0.05:
                fake.engine.gate.set()
            fake.engine.fail = dice.random() < 0.1
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)
        fake.engine.fail = False
        fake.engine.gate.set()
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*tasks, return_exceptions=True)

        kinds: Counter[str] = Counter()
        for value, answer in zip(values, answers, strict=True):
            if isinstance(answer, int):
                assert answer == value // 25
                kinds["ok"] += 1
            elif isinstance(answer, UnsupportedImage):
                assert value == -1
                kinds[answer.reason] += 1
            elif isinstance(answer, ServeError):
                assert isinstance(answer, FAIR), answer
                kinds[answer.reason] += 1
            else:
                assert isinstance(answer, asyncio.CancelledError), answer
                kinds["cancelled"] += 1
        assert kinds["ok"] > REQUESTS / 10
        assert kinds.keys() >= {"ok", "cancelled", "unsupported_format"}

        # What the callers saw is what was counted; who was cancelled may not have begun.
        for reason, count in kinds.items():
            counted = fake.count("alexnet_requests_total", outcome=reason)
            assert counted == count if reason != "cancelled" else counted <= count, reason
        assert fake.count("nv_inference_request_success", model="tiny") == kinds["ok"]
        assert fake.count("alexnet_requests_in_flight") == 0
        assert fake.count("alexnet_photo_bytes") == 0
        assert fake.count("alexnet_queue_photos") == 0
        assert fake.count("nv_inference_pending_request_count") == 0
