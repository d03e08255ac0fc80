"""Who is admitted, on a clock that the test turns and in queues that nobody serves."""

from types import SimpleNamespace
from typing import Any

import pytest

from alexnet.spec import Preprocess
from server.errors import WouldMiss
from server.scheduler import estimate as forecast
from server.scheduler.batcher import BatchPolicy
from server.scheduler.estimate import Forecast
from server.scheduler.job import Job
from server.scheduler.queue import FairQueue
from server.scheduler.trial import EVERY_S as TRIAL_S
from tests.batching import crop
from tests.fakes import SIDE, flat_costs

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
    for in_s in (0.5, 5.0, 1.9, 2.1, 0.5, 0.5, 0.5, 0.5, 5.0, 0.5, 0.5, 0.5, 0.5):
        asking = desk.photo(in_s)
        may = desk.lets_in(asking)
        assert desk.admits(asking) == may
        found.append((may, asking.trial))
        desk.forecast.settled(asking)
        desk.now += 0.4 * TRIAL_S
    assert set(found) == {(False, False), (True, False), (True, True)}


async def test_each_level_is_tried_for_itself(desk: Desk) -> None:
    """Those of another who are admitted teach nothing about it."""
    for _ in range(200):
        late = desk.job(60.0, level=2)
        late.expected = desk.now - 3.0
        desk.forecast.settled(late)
    admitted = 0
    for _ in range(20):
        desk.now += TRIAL_S
        assert desk.admits(desk.job(5.0, level=1))
        low = desk.job(1.5, level=2)
        admitted += desk.admits(low)
        if low.trial:
            desk.forecast.settled(low)
    assert admitted >= 10


async def test_whose_deadline_has_passed_is_not_tried(desk: Desk) -> None:
    assert not desk.admits(desk.job(0.5))
    desk.now += 1.01 * TRIAL_S
    dead = desk.job(0.5)
    dead.deadline = desk.now
    assert not desk.admits(dead)
    assert desk.admits(desk.job(0.5))


async def test_a_promise_that_is_broken_already_refuses_nobody(desk: Desk) -> None:
    waiting = desk.promised(60.0, level=2)
    assert desk.admits(desk.job(50.0, level=1))
    assert waiting.expected > waiting.deadline
    assert desk.admits(desk.job(50.0, level=2))


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
