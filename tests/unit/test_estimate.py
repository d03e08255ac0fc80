"""Which jobs are admitted, on a clock that the test turns and in queues that nothing serves."""

from types import SimpleNamespace
from typing import Any

import pytest

from server.errors import WouldMiss
from server.scheduler.batcher import BatchPolicy
from server.scheduler.estimate import PROBE_EVERY_S, Estimate
from server.scheduler.job import Job
from server.scheduler.queue import FairQueue
from tests.batching import crop, request
from tests.fakes import flat_costs


class Stage:
    """Decoders, or engines, with a queue."""

    threads = parallel = 1

    def __init__(self) -> None:
        self.queue, self.soon = FairQueue(3), set[Job]()
        self.engines = [SimpleNamespace(free_at=0.0)]

    def ahead_s(self, jobs: list[Job], costly: bool) -> float:
        return sum(job.decode_s for job in jobs)


class Desk:
    """Where jobs ask for admission: a batch and a decode cost a second each, unless told."""

    def __init__(self, infer_ms: float = 1000.0):
        self.now = 5000.0
        self.decoder, self.engine = Stage(), Stage()
        stages: tuple[Any, Any] = self.decoder, self.engine
        costs = flat_costs(infer_ms, decode_ms=1000.0)
        policy = BatchPolicy(4, priority_levels=3)
        self.estimate = Estimate(costs, *stages, policy, clock=lambda: self.now)

    def job(self, in_s: float, level: int = 1) -> Job:
        """A crop."""
        asked = request(self.now, in_s, level)
        return Job(asked, asked.deadline, level, crop=crop(0))

    def photo(self, in_s: float) -> Job:
        asked = request(self.now, in_s)
        return Job(asked, asked.deadline, 1, decode_s=1.0)

    def admitted(self, in_s: float, level: int) -> Job:
        """It waits for the engine, and is just in time if none goes before it."""
        waiting = self.job(in_s, level)
        waiting.expected = waiting.deadline
        self.engine.queue.push(waiting)
        return waiting

    def admits(self, asking: Job) -> bool:
        try:
            self.estimate.admit(asking)
        except WouldMiss:
            return False
        return True

    def lets_upload(self, asking: Job) -> bool:
        try:
            self.estimate.check(asking.request)
        except WouldMiss:
            return False
        return True


@pytest.fixture
async def desk() -> Desk:
    return Desk()


async def test_a_job_that_has_the_time_is_admitted_and_is_no_probe(desk: Desk) -> None:
    patient, hasty = desk.job(1.1), desk.job(0.9)
    assert desk.admits(patient)
    assert patient.expected == desk.now + 1
    assert not patient.probe
    assert not desk.admits(hasty)
    assert not hasty.probe


async def test_after_a_second_of_refusals_one_job_is_a_probe_and_only_one(desk: Desk) -> None:
    assert not desk.admits(desk.job(0.5)), "the first refusal is a refusal"
    desk.now += 0.99 * PROBE_EVERY_S
    assert not desk.admits(desk.job(0.5))
    desk.now += 0.02 * PROBE_EVERY_S
    probe = desk.job(0.5)
    assert desk.admits(probe)
    assert probe.probe
    for _ in range(3):
        assert not desk.admits(desk.job(0.5))
        desk.now += 0.3 * PROBE_EVERY_S
    desk.now += 0.2 * PROBE_EVERY_S
    assert desk.admits(desk.job(0.5))


async def test_the_first_job_after_a_long_silence_is_refused(desk: Desk) -> None:
    desk.now += 3600
    assert not desk.admits(desk.job(0.5))


async def test_an_admission_in_between_starts_the_time_of_refusals_again(desk: Desk) -> None:
    assert not desk.admits(desk.job(0.5))
    desk.now += 0.9 * PROBE_EVERY_S
    assert desk.admits(desk.job(5.0))
    desk.now += 0.9 * PROBE_EVERY_S
    assert not desk.admits(desk.job(0.5))
    desk.now += 0.9 * PROBE_EVERY_S
    assert not desk.admits(desk.job(0.5))
    desk.now += 0.2 * PROBE_EVERY_S
    assert desk.admits(desk.job(0.5))


async def test_an_upload_is_let_in_when_its_photo_would_be_admitted(desk: Desk) -> None:
    found = []
    for in_s in (0.5, 5.0, 1.9, 2.1, 0.5, 0.5, 0.5, 0.5, 5.0, 0.5, 0.5, 0.5, 0.5):
        asking = desk.photo(in_s)
        may = desk.lets_upload(asking)
        assert desk.admits(asking) == may
        found.append((may, asking.probe))
        desk.estimate.learn(asking, answered=True)
        desk.now += 0.4 * PROBE_EVERY_S
    assert set(found) == {(False, False), (True, False), (True, True)}


async def test_each_level_has_probes_of_its_own(desk: Desk) -> None:
    """Jobs of another level that are admitted teach nothing about it."""
    for _ in range(200):
        late = desk.job(60.0, level=2)
        late.expected = desk.now - 3.0
        desk.estimate.learn(late, answered=True)
    admitted = 0
    for _ in range(20):
        desk.now += PROBE_EVERY_S
        assert desk.admits(desk.job(5.0, level=1))
        low = desk.job(1.5, level=2)
        admitted += desk.admits(low)
        if low.probe:
            desk.estimate.learn(low, answered=True)
    assert admitted >= 10


async def test_a_job_whose_deadline_has_passed_is_no_probe(desk: Desk) -> None:
    assert not desk.admits(desk.job(0.5))
    desk.now += 1.01 * PROBE_EVERY_S
    dead = desk.job(0.5)
    dead.deadline = desk.now
    assert not desk.admits(dead)
    assert desk.admits(desk.job(0.5))


async def test_a_job_that_is_late_already_refuses_no_other(desk: Desk) -> None:
    waiting = desk.admitted(60.0, level=2)
    assert desk.admits(desk.job(50.0, level=1))
    assert waiting.expected > waiting.deadline
    assert desk.admits(desk.job(50.0, level=2))


@pytest.mark.parametrize(("took_s", "probes"), [(1.0, 4), (2.0, 10)])
async def test_after_a_slow_moment_probes_are_believed_when_they_are_in_time(
    desk: Desk, took_s: float, probes: int
) -> None:
    for _ in range(200):
        late = desk.job(60.0)
        late.expected = desk.now - 3.0
        desk.estimate.learn(late, answered=True)
    probes_seen = []
    for _ in range(10):
        desk.admits(desk.job(1.5))  # refused, if it is
        desk.now += 1.01 * PROBE_EVERY_S
        asking = desk.job(1.5)
        assert desk.admits(asking)
        probes_seen.append(asking.probe)
        desk.now += took_s
        desk.estimate.learn(asking, answered=True)
    assert sum(probes_seen) == probes


async def test_an_upload_that_is_let_in_as_a_probe_is_one(desk: Desk) -> None:
    asking = desk.photo(0.5)
    assert not desk.lets_upload(asking)
    desk.now += 1.01 * PROBE_EVERY_S
    asking = desk.photo(0.5)
    assert desk.lets_upload(asking)
    assert desk.admits(asking)
    assert asking.probe


@pytest.mark.parametrize("level", [2, 3])
async def test_a_job_of_the_same_or_a_lower_level_must_not_delay_an_admitted_one_past_its_deadline(
    desk: Desk, level: int
) -> None:
    waiting = [desk.admitted(60.0, level=2) for _ in range(5)]
    with pytest.raises(WouldMiss, match="accepted before would be late"):
        desk.estimate.admit(desk.job(50.0, level))
    assert all(each.expected == each.deadline for each in waiting)


async def test_a_higher_level_goes_first_and_the_lower_ones_are_expected_later(desk: Desk) -> None:
    waiting = [desk.admitted(60.0, level=2) for _ in range(3)]
    assert desk.admits(desk.job(50.0, level=1))
    # By its share of a batch of four, which takes a second.
    assert [each.expected - each.deadline for each in waiting] == [0.25] * 3


async def test_a_job_that_goes_later_delays_no_other(desk: Desk) -> None:
    waiting = desk.admitted(50.0, level=2)
    assert desk.admits(desk.job(60.0, level=2))
    assert waiting.expected == waiting.deadline


async def test_what_made_one_level_late_is_no_margin_of_another(desk: Desk) -> None:
    for _ in range(200):
        late = desk.job(60.0, level=2)
        late.expected = desk.now - 3.0
        desk.estimate.learn(late, answered=True)
    assert not desk.admits(desk.job(1.5, level=2))
    for level in (1, 3):
        assert desk.admits(desk.job(1.5, level))
    with pytest.raises(WouldMiss, match="may take 3000 ms now; the deadline was 2500 ms"):
        desk.estimate.check(desk.job(2.5, level=2).request)


async def test_an_idle_server_estimates_a_photo_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking, expected, asked = desk.photo(9.0), desk.estimate._expected, list[float]()

    def counted(
        level: int, deadline: float, decode_s: float, costly: bool
    ) -> tuple[float, list[Job]]:
        asked.append(decode_s)
        return expected(level, deadline, decode_s, costly)

    monkeypatch.setattr(desk.estimate, "_expected", counted)
    assert desk.lets_upload(asking)
    assert desk.admits(asking)
    assert len(asked) == 1
    desk.admitted(60.0, level=1)
    assert desk.lets_upload(asking), "and twice when others wait"
    assert len(asked) == 2


async def test_a_deadline_that_no_photo_can_meet_is_refused_before_the_upload(desk: Desk) -> None:
    with pytest.raises(WouldMiss, match="such a photo takes about 2000 ms here"):
        desk.estimate.check(desk.photo(1.5).request)
