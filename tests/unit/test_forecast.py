"""Who is admitted, on a clock that the test turns and in queues that nobody serves."""

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from alexnet.spec import Preprocess
from server import forecast
from server.batcher import BatchPolicy
from server.costmodel import CostModel
from server.decode import Decoder
from server.errors import Expired, ServeError, WouldMiss
from server.forecast import TRIAL_S, Forecast
from server.job import Job
from server.metrics import Metrics
from server.queue import FairQueue
from tests.fakes import SIDE, faking, flat, flat_costs
from tests.unit.test_batcher import answered, batching, crop, hold, job, submit

SPEC = Preprocess(SIDE, SIDE)


class Stage:
    """Decoders, or an engine."""

    threads = parallel = 1
    busy_until = 0.0

    def __init__(self) -> None:
        self.waiting = FairQueue(3)

    def __len__(self) -> int:
        return len(self.waiting)

    def around(self, level: int, deadline: float) -> tuple[list[Job], list[Job]]:
        return self.waiting.around(level, deadline)


class Desk:
    """Where photos ask: a batch and a decode cost a second each, unless told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, infer_ms: float = 1000.0):
        self.now = 5000.0
        monkeypatch.setattr(forecast, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.decoder, self.engine = Stage(), Stage()
        stages: tuple[Any, Any] = self.decoder, self.engine
        costs = flat_costs(infer_ms, decode_ms=1000.0)
        self.forecast = Forecast(costs, *stages, BatchPolicy(4, priority_levels=3))

    def job(self, in_s: float, level: int = 1) -> Job:
        """A crop."""
        return Job(self.now, self.now + in_s, level, crop=crop(0), arrived=self.now)

    def photo(self, in_s: float) -> Job:
        return Job(self.now, self.now + in_s, arrived=self.now)

    def promised(self, in_s: float, level: int) -> Job:
        """It waits for the engine, and is answered in time if nobody goes before it."""
        waiting = self.job(in_s, level)
        waiting.expected = waiting.deadline
        self.engine.waiting.push(waiting)
        return waiting

    def admits(self, asking: Job) -> bool:
        try:
            self.forecast.admit(asking)
        except WouldMiss:
            return False
        return True

    def lets_in(self, asking: Job) -> bool:
        """Before the upload."""
        try:
            self.forecast.check(asking.level, asking.start, asking.deadline)
        except WouldMiss:
            return False
        return True


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(monkeypatch)


async def test_who_has_the_time_is_admitted_and_is_no_trial(desk: Desk) -> None:
    patient, hasty = desk.job(1.1), desk.job(0.9)
    assert desk.admits(patient)
    assert patient.expected == desk.now + 1
    assert not patient.trial
    assert not desk.admits(hasty)
    assert not hasty.trial


async def test_after_nobody_was_admitted_for_long_one_is_tried_and_only_one(desk: Desk) -> None:
    assert not desk.admits(desk.job(0.5)), "the first refusal is a refusal"
    desk.now += 0.99 * TRIAL_S
    assert not desk.admits(desk.job(0.5))
    desk.now += 0.02 * TRIAL_S
    tried = desk.job(0.5)
    assert desk.admits(tried)
    assert tried.trial
    for _ in range(3):
        assert not desk.admits(desk.job(0.5))
        desk.now += 0.3 * TRIAL_S
    desk.now += 0.2 * TRIAL_S
    assert desk.admits(desk.job(0.5))


async def test_the_first_to_ask_after_a_long_silence_is_refused(desk: Desk) -> None:
    desk.now += 3600
    assert not desk.admits(desk.job(0.5))


async def test_an_admission_in_between_starts_the_time_of_refusals_again(desk: Desk) -> None:
    assert not desk.admits(desk.job(0.5))
    desk.now += 0.9 * TRIAL_S
    assert desk.admits(desk.job(5.0))
    desk.now += 0.9 * TRIAL_S
    assert not desk.admits(desk.job(0.5))
    desk.now += 0.9 * TRIAL_S
    assert not desk.admits(desk.job(0.5))
    desk.now += 0.2 * TRIAL_S
    assert desk.admits(desk.job(0.5))


async def test_who_may_upload_is_who_would_be_admitted(desk: Desk) -> None:
    found = []
    for in_s in (0.5, 5.0, 1.9, 2.1, 0.5, 0.1, 1.0, 0.5, 0.5, 5.0, 0.1, 0.1, 0.1):
        asking = desk.photo(in_s)
        may = desk.lets_in(asking)
        assert desk.lets_in(asking) == may, "asking twice changes nothing"
        assert desk.admits(asking) == may
        found.append((may, asking.trial))
        desk.forecast.settled(asking)
        desk.now += 0.4 * TRIAL_S
    assert set(found) == {(False, False), (True, False), (True, True)}


@pytest.mark.parametrize(("took_s", "trials"), [(1.0, 4), (2.0, 10)])
async def test_after_a_slow_moment_trials_are_believed_when_they_are_in_time(
    desk: Desk, took_s: float, trials: int
) -> None:
    for _ in range(200):
        late = desk.job(60.0)
        late.expected = desk.now - 3.0
        desk.forecast.settled(late)
    tried = []
    for _ in range(10):
        desk.admits(desk.job(1.5))  # refused, if it is
        desk.now += 1.01 * TRIAL_S
        asking = desk.job(1.5)
        assert desk.admits(asking)
        tried.append(asking.trial)
        desk.now += took_s
        desk.forecast.settled(asking)
    assert sum(tried) == trials


async def test_an_upload_that_is_let_in_for_a_trial_is_tried(desk: Desk) -> None:
    asking = desk.photo(0.5)
    assert not desk.lets_in(asking)
    desk.now += 1.01 * TRIAL_S
    asking = desk.photo(0.5)
    assert desk.lets_in(asking)
    assert desk.admits(asking)
    assert asking.trial


@pytest.mark.parametrize("level", [2, 3])
async def test_nobody_of_the_same_or_a_lower_level_breaks_a_promise(desk: Desk, level: int) -> None:
    waiting = [desk.promised(60.0, level=2) for _ in range(5)]
    with pytest.raises(WouldMiss, match="accepted before would be late"):
        desk.forecast.admit(desk.job(50.0, level))
    assert all(each.expected == each.deadline for each in waiting)


async def test_a_higher_level_goes_first_and_the_lower_ones_are_expected_later(desk: Desk) -> None:
    waiting = [desk.promised(60.0, level=2) for _ in range(3)]
    assert desk.admits(desk.job(50.0, level=1))
    # By its share of a batch of four, which takes a second.
    assert [each.expected - each.deadline for each in waiting] == [0.25] * 3


async def test_who_comes_later_and_goes_later_breaks_no_promise(desk: Desk) -> None:
    waiting = desk.promised(50.0, level=2)
    assert desk.admits(desk.job(60.0, level=2))
    assert waiting.expected == waiting.deadline


async def test_what_made_one_level_late_is_no_margin_of_another(desk: Desk) -> None:
    for _ in range(200):
        late = desk.job(60.0, level=2)
        late.expected = desk.now - 3.0
        desk.forecast.settled(late)
    assert not desk.admits(desk.job(1.5, level=2))
    for level in (1, 3):
        assert desk.admits(desk.job(1.5, level))
    with pytest.raises(WouldMiss, match="may take 3000 ms now; the deadline was 2500 ms"):
        desk.forecast.check(2, desk.now, desk.now + 2.5)


async def test_a_calibration_of_a_busy_moment_is_unlearnt(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says 60 ms, and nobody here waits longer than 50; in truth it takes next to nothing."""
    monkeypatch.setattr(forecast, "TRIAL_S", 0.02)
    async with faking() as fake:
        served = fake.served
        costs = CostModel({1: 60.0, 64: 60.0}, {"JPEG": (0.1, 0.0)})
        served.costs = served.batcher._costs = served.forecast._costs = costs
        for lane in served.batcher._lanes:
            lane._costs = costs

        async def ask() -> bool:
            try:
                with fake.plane.admit("test", 0.05) as admission:
                    return bool(await fake.plane.classify(flat(50), admission))
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
