"""Thousands of requests through the service, in every mood: no mix-up, and nothing is lost."""

import asyncio
import gc
import logging
import random
import threading
import time
import weakref
from collections import Counter
from typing import Any

import pytest

from server import service
from server.errors import (
    EngineFailure,
    Expired,
    Overloaded,
    ServeError,
    TooLarge,
    UnsupportedImage,
    WouldMiss,
)
from server.scheduler import batcher, decoder
from server.scheduler.job import Job, Request
from tests.batching import answered, batching, job, submit
from tests.fakes import Fake, FakeEngine, faking, flat
from tests.waiting import until

REQUESTS = 3000
PHOTOS = {value: flat(value) for value in range(0, 250, 10)}
FAIR = (Overloaded, Expired, WouldMiss, EngineFailure)


async def ask(fake: Fake, value: int, timeout_s: float, level: int) -> int:
    """A value of -1 sends what is no photo."""
    image = PHOTOS[value] if value >= 0 else b"no photo"
    with fake.service.admit("test", timeout_s, priority=level) as asked:
        return int((await fake.service.classify(asked, image)).probabilities.argmax())


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
            if len(tasks) % 300 == 0:  # a slow machine catches up, and there is room again
                fake.engine.fail = False
                fake.engine.gate.set()
                await asyncio.wait(tasks, timeout=60)
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

        # What the callers saw is what was counted; a cancelled one may not have begun.
        for reason, count in kinds.items():
            counted = fake.count("alexnet_requests_total", outcome=reason)
            assert counted == count if reason != "cancelled" else counted <= count, reason
        assert fake.count("nv_inference_request_success", model="tiny") == kinds["ok"]
        assert fake.count("alexnet_requests_in_flight") == 0
        assert fake.count("alexnet_photo_bytes") == 0
        assert fake.count("alexnet_queue_photos") == 0
        assert fake.count("nv_inference_pending_request_count") == 0


async def test_an_engine_that_hangs_is_not_ready_until_it_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with faking() as fake:
        fake.engine.gate.clear()
        stuck = asyncio.create_task(ask(fake, 50, 30.0, 1))
        assert await asyncio.to_thread(fake.engine.started.wait, 5)
        assert fake.service.ready, "late is not hung"
        monkeypatch.setattr(batcher, "HUNG_S", 0.05)
        await until(lambda: not fake.service.ready)
        fake.engine.gate.set()
        assert await stuck == 2
        assert fake.service.ready


async def test_one_of_two_engines_that_hangs_leaves_the_other_to_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batcher, "HUNG_S", 0.0)
    other = FakeEngine()
    async with batching(others=[other]) as (both, engine):
        engine.gate.clear()
        other.gate.clear()
        submit(both, [first := job(25)])
        await until(lambda: engine.started.is_set() or other.started.is_set())
        assert both.works
        submit(both, [second := job(50)])
        await until(lambda: engine.started.is_set() and other.started.is_set())
        await until(lambda: not both.works)
        engine.gate.set()
        other.gate.set()
        await answered(first, second)


async def test_an_engine_that_hangs_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(batcher, "CLOSE_S", 0.02)
    async with faking() as fake:
        served, closed = fake.pipeline, list[bool]()
        monkeypatch.setattr(fake.engine, "close", lambda: closed.append(True))
        fake.engine.gate.clear()
        with pytest.raises(Expired):
            await ask(fake, 50, 0.05, 1)
        assert fake.engine.started.is_set()
        assert await fake.service.drain(5)
        await asyncio.wait_for(fake.service.repository.close(), 5)
        assert closed == [], "what is in use is not freed"
        assert "engine-0 did not come back" in caplog.text
        assert not served.batcher.close()
        fake.engine.gate.set()
        (engine,) = served.batcher.engines
        await asyncio.to_thread(engine.thread.join, 5)
        assert served.batcher.close()


async def test_an_upload_above_the_limit_is_refused_though_the_server_is_empty() -> None:
    async with faking(max_request_bytes=1000) as fake:
        with fake.service.admit("test", upload_bytes=1000):
            assert fake.count("alexnet_photo_bytes") == 1000
        with pytest.raises(TooLarge, match="has 1,001 bytes"):
            fake.service.admit("test", upload_bytes=1001).__enter__()
        assert fake.count("alexnet_requests_total", face="test", outcome="too_large") == 1
        assert fake.count("nv_inference_request_failure", reason="OTHER") == 1
        assert fake.count("alexnet_photo_bytes") == fake.count("alexnet_requests_in_flight") == 0


async def test_a_job_cancelled_as_the_engine_takes_it_is_counted_once() -> None:
    async with faking(max_batch_size=1) as fake:
        fake.engine.gate.clear()
        first = asyncio.create_task(ask(fake, 0, 30.0, 1))
        assert await asyncio.to_thread(fake.engine.started.wait, 5)
        gone = asyncio.create_task(ask(fake, 50, 30.0, 1))
        await until(lambda: len(fake.pipeline.batcher.queue.jobs) == 1)
        gone.cancel()
        fake.engine.gate.set()
        while len(fake.pipeline.batcher.queue.jobs):  # it is taken before this loop turns again
            time.sleep(0.001)
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert await first == 0
        assert fake.engine.batches == [[0]]
        assert fake.count("alexnet_dropped_total", reason="cancelled") == 1
        assert fake.count("alexnet_dropped_total") == 1


async def test_a_job_cancelled_as_a_decoder_takes_it_is_counted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, real = threading.Event(), decoder.preprocess

    def preprocess(*photo: Any) -> Any:
        assert gate.wait(10)
        return real(*photo)

    monkeypatch.setattr(decoder, "preprocess", preprocess)
    async with faking() as fake:
        pool = fake.pipeline.decoder
        first = [asyncio.create_task(ask(fake, 0, 30.0, 1)) for _ in range(pool.threads)]
        await fake.until_in_flight(len(first))
        await until(lambda: len(pool.queue.jobs) == 0)
        gone = asyncio.create_task(ask(fake, 50, 30.0, 1))
        await until(lambda: len(pool.queue.jobs) == 1)
        gone.cancel()
        gate.set()
        while len(pool.queue.jobs):
            time.sleep(0.001)
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert await asyncio.gather(*first) == [0] * len(first)
        assert [v for batch in fake.engine.batches for v in batch] == [0] * len(first)
        assert fake.count("alexnet_dropped_total") == 1


@pytest.mark.parametrize("patient", [True, False])
async def test_a_photo_that_is_given_up_while_it_is_decoded_never_reaches_the_engine(
    patient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, gate, real = threading.Event(), threading.Event(), decoder.preprocess

    def preprocess(*photo: Any) -> Any:
        taken.set()
        assert gate.wait(10)
        return real(*photo)

    monkeypatch.setattr(decoder, "preprocess", preprocess)
    async with faking() as fake:
        margin = fake.pipeline.estimate._margins[0]
        lost = asyncio.create_task(ask(fake, 50, 30.0 if patient else 0.1, 1))
        assert await asyncio.to_thread(taken.wait, 5)
        if patient:
            lost.cancel()
        with pytest.raises(asyncio.CancelledError if patient else Expired):
            await lost
        assert (margin.of(10.0) > 0) is not patient, (
            "one that waited to the end says how late it is"
        )
        gate.set()
        await until(lambda: fake.count("alexnet_dropped_total"))
        assert await ask(fake, 100, 30.0, 1) == 4
        assert fake.engine.batches == [[100]]


async def test_what_was_answered_is_forgotten_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at its deadline."""
    jobs: list[weakref.ref[Job]] = []

    class Seen(Job):
        def __init__(self, *fields: Any):
            super().__init__(*fields)
            jobs.append(weakref.ref(self))

    monkeypatch.setattr(service, "Job", Seen)
    async with faking() as fake:
        gc.disable()
        try:
            assert await ask(fake, 50, 30.0, 1) == 2
            await until(lambda: all(job() is None for job in jobs))
        finally:
            gc.enable()
        assert len(jobs) == 1


@pytest.mark.parametrize("why", [UnsupportedImage, EngineFailure, Expired, WouldMiss])
async def test_what_failed_is_forgotten_at_once(
    why: type[ServeError], caplog: pytest.LogCaptureFixture
) -> None:
    """And not when the garbage is collected: no error leads back to itself."""
    caplog.set_level(
        logging.CRITICAL, "server.scheduler.engine_thread"
    )  # the log would keep the traceback
    async with faking() as fake:
        fake.engine.fail = why is EngineFailure
        if why is Expired:
            fake.engine.gate.clear()
        value, timeout_s = (-1 if why is UnsupportedImage else 50), 5.0
        if why in (Expired, WouldMiss):
            timeout_s = 0.05 if why is Expired else 0.0001

        async def fail() -> tuple[type[ServeError], "weakref.ref[Request]"]:
            try:
                with fake.service.admit("test", timeout_s) as asked:
                    left = weakref.ref(asked)
                    image = PHOTOS[value] if value >= 0 else b"no photo"
                    await fake.service.classify(asked, image)
            except ServeError as error:
                return type(error), left
            pytest.fail("it was answered")

        gc.disable()
        try:
            error, left = await fail()
            fake.engine.gate.set()  # a batch that runs holds its jobs
            await until(lambda: left() is None)
        finally:
            gc.enable()
        assert error is why
