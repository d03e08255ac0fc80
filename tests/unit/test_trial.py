"""Who is tried when everybody is refused."""

import asyncio
import threading
import time

import pytest
from prometheus_client import CollectorRegistry

from alexnet.spec import Preprocess
from server.errors import Expired, ServeError, WouldMiss
from server.scheduler import trial
from server.scheduler.costs import CostModel
from server.scheduler.decoder import Decoder
from server.scheduler.job import Job
from server.scheduler.trial import EVERY_S, LATELY_S, Trial
from server.telemetry.metrics import Metrics
from tests.batching import answered, batching, hold, job, submit
from tests.fakes import SIDE, faking, flat, flat_costs

SPEC = Preprocess(SIDE, SIDE)


def due(asked: Trial, now: float, timeout_s: float = 1.0) -> bool:
    return asked.due(timeout_s, now)


def test_one_a_second_from_the_first_refusal_on() -> None:
    chance = Trial()
    assert not due(chance, 100)
    assert not due(chance, 100 + EVERY_S)
    assert due(chance, 100.01 + EVERY_S)
    chance.admitted()
    assert not due(chance, 100.02 + EVERY_S)
    assert due(chance, 100.04 + 2 * EVERY_S)


def test_who_has_no_time_does_not_take_the_chance_of_who_has_some() -> None:
    chance = Trial()
    now, tried = 100.0, []
    for i in range(300):
        now += 0.01
        timeout_s = 0.9 if i % 30 == 0 else 0.001
        if chance.due(timeout_s, now):
            tried.append(timeout_s)
            chance.admitted()
            chance.due(0.9, now)  # others with time are refused meanwhile
    assert tried
    assert set(tried) == {0.9}


def test_a_long_timeout_is_forgotten_when_its_like_has_stopped_asking() -> None:
    chance = Trial()
    assert not chance.due(5.0, 100)
    assert not chance.due(0.1, 102)
    assert chance.due(0.1, 100.01 + LATELY_S)


def test_one_upload_at_a_time_is_let_in_for_a_trial() -> None:
    chance = Trial()
    assert not chance.passes(1.0, 100)
    later = 100.01 + EVERY_S
    assert [chance.passes(1.0, later) for _ in range(5)] == [True, False, False, False, False]
    assert chance.due(1.0, later), "who was let in is the one"
    assert chance.passes(1.0, later + EVERY_S), "he may never have come"


async def test_a_calibration_of_a_busy_moment_is_unlearnt(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says 60 ms, and nobody here waits longer than 50; in truth it takes next to nothing."""
    monkeypatch.setattr(trial, "EVERY_S", 0.02)
    async with faking() as fake:
        served = fake.pipeline
        costs = CostModel({1: 60.0, 64: 60.0}, {"JPEG": (0.1, 0.0)})
        served.costs = served.batcher._costs = served.forecast._costs = costs
        for lane in served.batcher._lanes:
            lane._costs = costs

        async def ask() -> bool:
            try:
                with fake.service.admit("test", 0.05) as admission:
                    return bool(await fake.service.classify(flat(50), admission))
            except ServeError:
                return False

        assert not await ask()
        async with asyncio.timeout(10):
            while not all([await ask() for _ in range(5)]):
                await asyncio.sleep(0.005)
        assert costs.drift["infer"] < 50 / 60


@pytest.mark.parametrize(
    ("in_s", "trial", "error"), [(30, False, WouldMiss), (30, True, None), (-1, True, Expired)]
)
async def test_a_decoder_takes_a_trial_until_its_deadline_has_passed(
    in_s: float, trial: bool, error: type[ServeError] | None
) -> None:
    decoder = Decoder(1, 1_000_000, 1, Metrics(CollectorRegistry()))
    decoded = threading.Event()
    now = time.monotonic()
    asking = Job(now, now + in_s, image=flat(50), decode_s=60.0, trial=trial)
    decoder.submit(asking, SPEC, lambda job: decoded.set())
    if error:
        with pytest.raises(error):
            await asyncio.wait_for(asking.answer, 5)
    else:
        assert await asyncio.to_thread(decoded.wait, 5)
    assert (asking.photo is None) == (error is not None)
    await asyncio.to_thread(decoder.close)


@pytest.mark.parametrize(
    ("in_s", "trial", "error"), [(30, False, WouldMiss), (30, True, None), (-1, True, Expired)]
)
async def test_the_engine_takes_a_trial_until_its_deadline_has_passed(
    in_s: float, trial: bool, error: type[ServeError] | None
) -> None:
    async with batching(costs=flat_costs(infer_ms=60_000)) as (batcher, engine):
        first = await hold(batcher, engine)
        asking = job(50, in_s)
        asking.trial = trial
        submit(batcher, [asking])
        engine.gate.set()
        _, result = await answered(first, asking)
        assert isinstance(result, error) if error else result.probabilities.argmax() == 2
        assert engine.batches == [[250]] + ([] if error else [[50]])


async def test_company_does_not_cost_a_trial_its_run() -> None:
    async with batching(costs=flat_costs(infer_ms=60_000)) as (batcher, engine):
        first = await hold(batcher, engine)
        asking = job(50, 30)
        asking.trial = True
        others = submit(batcher, [asking, job(75), job(100)])
        engine.gate.set()
        _, result, *_ = await answered(first, *others)
        assert not isinstance(result, Exception), result
