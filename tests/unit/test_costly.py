"""Photos that cost much to decode leave a thread, room and time to those that do not."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexnet.formats import FORMATS
from alexnet.header import Header
from alexnet.preprocess import Photo
from alexnet.samples import KINDS
from server.errors import TooLarge
from server.scheduler import decoder as module
from server.scheduler.costs import CostModel
from server.scheduler.decoder import COSTLY_S, KEPT_S, YIELD, Decoder, turn
from server.scheduler.job import Job
from server.scheduler.lane import Lane
from tests.batching import request
from tests.fakes import SIDE, Fake, believe, faking, flat
from tests.photos import png
from tests.waiting import until

COSTLY = png(400, 400)


class Held:
    """`preprocess`, in which costly photos stay until they are let go."""

    def __init__(self) -> None:
        self.go, self.running = threading.Semaphore(0), 0

    def __call__(self, data: bytes, *options: Any) -> Photo:
        if data == COSTLY:
            self.running += 1
            assert self.go.acquire(timeout=10)
            self.running -= 1
        return Photo(np.zeros((SIDE, SIDE, 3), np.uint8), "PNG", 1, 1, "RGB", 1)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    result = Held()
    monkeypatch.setattr(module, "preprocess", result)
    return result


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    async with faking() as fake:
        kinds = {"JPEG": (1.0, 1.0), "PNG": (1.0, 1000.0)}
        believe(fake.pipeline, CostModel({1: 1.0, 64: 1.0}, kinds))
        yield fake


async def ask(fake: Fake, photo: bytes, timeout_s: float = 5.0) -> float:
    with fake.service.admit("test", timeout_s) as asked:
        return float((await fake.service.classify(asked, photo)).probabilities.max())


async def test_a_thread_is_kept_for_photos_that_are_not_costly(fake: Fake, held: Held) -> None:
    costly = [asyncio.create_task(ask(fake, COSTLY)) for _ in range(4)]
    await until(lambda: held.running == 1)
    for i in range(20):
        await asyncio.wait_for(ask(fake, flat(i)), 2)
    assert held.running == 1
    held.go.release(4)
    await asyncio.gather(*costly)


async def test_costly_photos_alone_have_every_thread(
    fake: Fake, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_S", 0.3)
    await ask(fake, flat(0))
    costly = [asyncio.create_task(ask(fake, COSTLY)) for _ in range(4)]
    await until(lambda: held.running == 2)
    held.go.release(4)
    await asyncio.gather(*costly)


async def test_costly_photos_that_wait_for_room_keep_none_from_the_others(held: Held) -> None:
    needed = len(COSTLY) + FORMATS["PNG"].bytes_per_pixel * 400 * 400 + 64 * 400
    decoder = Decoder(4, 1_000_000, 1, int(2.2 * needed))
    jobs = [job(60.0, 1.0, decoding_bytes=needed) for _ in range(3)]
    for each in jobs:
        decoder.queue.push(each)
    with decoder.queue.changed:
        assert [decoder._take(), decoder._take()] == [jobs[0], None]
        small = job(99.0, 0.01, decoding_bytes=1000)
        decoder.queue.push(small)
        assert decoder._take() is small
        decoder._running.remove(jobs[0])
        assert decoder._take() is jobs[1]
    decoder._running.clear()
    decoder.close()


async def test_a_photo_above_a_workers_part_goes_through_the_lane_one_at_a_time(
    tmp_path: Path,
) -> None:
    path, part, large = tmp_path / "lane", 8000, 20_000
    workers = [Decoder(4, 1_000_000, 1, part, Lane(path, 4 * part)) for _ in range(2)]
    with pytest.raises(TooLarge, match="at most 32,000 are given"):
        workers[0].check_room(4 * part + 1)
    asked = [[job(60.0, 1.0, decoding_bytes=size) for size in (large, 1000)] for _ in workers]
    for decoder, jobs in zip(workers, asked, strict=True):
        decoder.check_room(large)
        for each in jobs:
            decoder.queue.push(each)
        with decoder.queue.changed:
            taken = decoder._take()
            assert taken is (jobs[0] if decoder is workers[0] else None)
            decoder.queue.push(small := job(99.0, 0.01, decoding_bytes=900))
            assert decoder._take() is small, "an eighth is left to the others"
    workers[0]._lane.leave()  # type: ignore[union-attr]
    assert workers[1]._take() is asked[1][0]
    for decoder in workers:
        decoder._running.clear()
        decoder.close()


def job(deadline: float, decode_s: float, **facts: Any) -> Job:
    costly = decode_s > COSTLY_S
    return Job(request(0.0, deadline), deadline, 1, decode_s=decode_s, costly=costly, **facts)


async def test_the_shortest_goes_first_and_the_others_age() -> None:
    at_once = [job(10.0, cost) for cost in (0.01, 0.05, 0.09)]
    assert sorted([*at_once[1:], at_once[0]], key=turn) == at_once
    late = job(10.0 + 1.01 * YIELD * 0.04, 0.01)
    assert sorted([at_once[1], late], key=turn) == [at_once[1], late]


async def test_costly_photos_that_wait_are_no_reason_to_refuse_another(
    fake: Fake, held: Held
) -> None:
    costly = [asyncio.create_task(ask(fake, COSTLY)) for _ in range(8)]
    await until(lambda: held.running == 1)
    await ask(fake, flat(0), 0.15)
    assert fake.pipeline.decoder.ahead_s(list(fake.pipeline.decoder.queue.jobs), True) > 1
    held.go.release(8)
    await asyncio.gather(*costly)


def test_the_price_of_a_progressive_photo_is_that_of_its_scans() -> None:
    costs = CostModel({1: 1.0}, {"JPEG": (1.0, 1.0), "progressive JPEG": (0.0, 10.0)})
    usual, many = (Header("JPEG", 1000, 1000, True, scans) for scans in (10, 100))
    assert costs.quiet_s(usual) == pytest.approx(0.01)
    assert costs.quiet_s(many) == pytest.approx(0.1)
    assert KEPT_S > 1


def test_a_kind_that_was_not_measured_is_not_taken_to_cost_as_little_as_a_jpeg() -> None:
    costs = CostModel({1: 1.0}, {"JPEG": (2.0, 3.0)})
    for kind in (*KINDS, "HEIF"):
        if kind != "JPEG":
            progressive = kind.startswith("progressive ")
            header = Header(kind.removeprefix("progressive "), 5416, 4062, progressive)
            assert costs.quiet_s(header) > COSTLY_S
