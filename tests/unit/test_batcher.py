"""The batcher's promises, with an engine behind a gate and never a sleep."""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from server.errors import Cancelled, EngineFailure, Expired, NotReady, WouldMiss
from server.scheduler.batcher import FAILURES_UNTIL_BROKEN, PAUSE_S
from server.scheduler.costs import CostModel
from tests.batching import answered, batching, hold, job, submit
from tests.fakes import FakeEngine, flat_costs


def costs_of(infer_ms: dict[int, float]) -> CostModel:
    return CostModel(infer_ms, {"JPEG": (0.0, 0.0)})


async def test_a_lone_photo_goes_at_once_in_a_batch_of_one() -> None:
    async with batching() as (batcher, engine):
        lone = job(75)
        batcher.submit(lone)
        result = await lone.task
        assert engine.batches == [[75]]
        assert result.timing.batch_size == 1
        assert result.probabilities.argmax() == 3


async def test_what_waited_while_the_engine_ran_is_the_next_batch_oldest_first() -> None:
    async with batching() as (batcher, engine):
        first = await hold(batcher, engine)
        waiting = submit(batcher, [job(0), job(25), job(50)])
        engine.gate.set()
        await answered(first, *waiting)
        assert engine.batches == [[250], [0, 25, 50]]


async def test_the_earliest_deadline_goes_first() -> None:
    async with batching(max_batch_size=2) as (batcher, engine):
        first = await hold(batcher, engine)
        waiting = submit(batcher, [job(0, 30), job(25, 10), job(50, 20), job(75, 40)])
        engine.gate.set()
        await answered(first, *waiting)
        assert engine.batches == [[250], [25, 50], [0, 75]]


async def test_a_batch_never_exceeds_the_maximum() -> None:
    async with batching(max_batch_size=4) as (batcher, engine):
        first = await hold(batcher, engine)
        waiting = submit(batcher, [job(v) for v in range(11)])
        engine.gate.set()
        await answered(first, *waiting)
        assert [len(b) for b in engine.batches] == [1, 4, 4, 3]


async def test_a_batch_is_as_large_as_its_earliest_deadline_allows() -> None:
    """A photo takes a minute; one has four and a half of them, the others an hour."""
    costs = costs_of({1: 60_000.0, 16: 16 * 60_000.0})
    async with batching(max_batch_size=16, costs=costs) as (batcher, engine):
        first = await hold(batcher, engine)
        tight = job(0, 4.5 * 60)
        roomy = [job(25) for _ in range(9)]
        submit(batcher, [*roomy, tight])
        engine.gate.set()
        await answered(first, tight, *roomy)
        assert engine.batches == [[250], [0, 25, 25, 25], [25] * 6]


async def test_jobs_that_can_no_longer_be_answered_in_time_are_refused_before_the_engine() -> None:
    costs = flat_costs(infer_ms=60_000)
    async with batching(costs=costs) as (batcher, engine):
        first = await hold(batcher, engine)
        missed, expired, kept = submit(batcher, [job(0, 30), job(25, -1), job(50)])
        engine.gate.set()
        results = await answered(first, missed, expired, kept)
        assert isinstance(results[1], WouldMiss)
        assert isinstance(results[2], Expired)
        assert engine.batches == [[250], [50]]


async def test_one_tight_deadline_does_not_make_the_batch_of_all_the_others_small() -> None:
    """A batch of eight costs little more than one: for one photo's sake seven would wait."""
    costs = costs_of({1: 60_000.0, 8: 80_000.0})
    async with batching(max_batch_size=8, costs=costs) as (batcher, engine):
        first = await hold(batcher, engine)
        tight, *roomy = submit(batcher, [job(0, 61), *(job(25) for _ in range(8))])
        engine.gate.set()
        results = await answered(first, tight, *roomy)
        assert isinstance(results[1], WouldMiss)
        assert engine.batches == [[250], [25] * 8]


async def test_priorities_share_the_batches_and_none_is_starved() -> None:
    async with batching(max_batch_size=5, priority_levels=2) as (batcher, engine):
        first = await hold(batcher, engine)
        waiting = submit(batcher, [job(0, level=2) for _ in range(10)])
        waiting += submit(batcher, [job(25, level=1) for _ in range(8)])
        engine.gate.set()
        await answered(first, *waiting)
        assert [sorted(b) for b in engine.batches[1:3]] == [[0, 25, 25, 25, 25]] * 2


async def test_the_largest_preferred_size_that_can_be_filled_is_taken() -> None:
    async with batching(max_batch_size=8, preferred_batch_size=(2, 4)) as (batcher, engine):
        first = await hold(batcher, engine)
        waiting = submit(batcher, [job(v) for v in range(7)])
        engine.gate.set()
        await answered(first, *waiting)
        assert [len(b) for b in engine.batches] == [1, 4, 2, 1]


async def test_with_a_delay_the_batch_goes_when_it_is_full_and_not_before() -> None:
    async with batching(max_batch_size=3, max_queue_delay_s=3600.0) as (batcher, engine):
        submit(batcher, two := [job(0), job(25)])
        assert len(batcher.queue.jobs) == 2
        assert not engine.started.is_set()
        submit(batcher, third := [job(50)])
        await answered(*two, *third)
        assert engine.batches == [[0, 25, 50]]


async def test_a_delay_never_costs_a_deadline() -> None:
    costs = flat_costs(infer_ms=10_000)
    async with batching(max_batch_size=3, costs=costs, max_queue_delay_s=3600.0) as (
        batcher,
        engine,
    ):
        (lone,) = submit(batcher, [job(0, in_s=12.55)])
        async with asyncio.timeout(5):
            await answered(lone)
        assert engine.batches == [[0]]


async def test_each_caller_gets_the_row_of_its_own_photo() -> None:
    async with batching(max_batch_size=7) as (batcher, _):
        values = [int(v) for v in np.random.default_rng(0).integers(0, 10, 500) * 25]
        results = await answered(*submit(batcher, [job(v) for v in values]))
        assert [int(r.probabilities.argmax()) * 25 for r in results] == values


async def test_a_removed_photo_never_reaches_the_engine() -> None:
    async with batching() as (batcher, engine):
        first = await hold(batcher, engine)
        keep, drop = submit(batcher, [job(25), job(50)])
        batcher.queue.remove(drop)
        assert len(batcher.queue.jobs) == 1
        engine.gate.set()
        await answered(first, keep)
        assert engine.batches == [[250], [25]]
        batcher.queue.remove(keep)  # too late, and no error


async def test_a_job_that_was_cancelled_while_it_was_decoded_is_not_queued() -> None:
    async with batching() as (batcher, engine):
        first = await hold(batcher, engine)
        gone = job(50)
        gone.settle(Cancelled())
        batcher.submit(gone)
        assert len(batcher.queue.jobs) == 0
        engine.gate.set()
        await answered(first)
        assert engine.batches == [[250]]


async def test_an_engine_that_fails_answers_its_batch_and_serves_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with batching() as (batcher, engine):
        engine.fail = True
        results = await answered(*submit(batcher, [job(25), job(50)]))
        assert all(isinstance(r, EngineFailure) for r in results)
        assert "secret" not in str(results[0])
        assert "a secret of the engine" in caplog.text
        engine.fail = False
        (again,) = await answered(*submit(batcher, [job(75)]))
        assert again.probabilities.argmax() == 3


async def test_a_replica_whose_engine_keeps_failing_is_broken_until_a_pause() -> None:
    async with batching() as (batcher, engine):
        engine.fail = True
        for _ in range(FAILURES_UNTIL_BROKEN):
            assert batcher.works
            await answered(*submit(batcher, [job(25)]))
        assert not batcher.works
        batcher.engines[0].last_failure -= PAUSE_S
        assert batcher.works, "a request may find out whether it works again"
        engine.fail = False
        await answered(*submit(batcher, [job(75)]))
        assert batcher.works


async def test_an_engine_with_a_row_too_few_is_a_failure_and_no_mix_up() -> None:
    engine = FakeEngine()
    async with batching(run=lambda crops: engine.run(crops)[:-1]) as (batcher, _):
        (result,) = await answered(*submit(batcher, [job(25)]))
        assert isinstance(result, EngineFailure)


async def test_closing_refuses_jobs_that_wait_and_answers_those_in_the_engine() -> None:
    async with batching() as (batcher, engine):
        first = await hold(batcher, engine)
        (waiting,) = submit(batcher, [job(25)])
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        (result,) = await answered(waiting)
        assert isinstance(result, NotReady)
        engine.gate.set()
        (result,) = await answered(first)
        assert result.probabilities.argmax() == 9
        await closing
        (late,) = submit(batcher, [job(25)])
        assert isinstance((await answered(late))[0], NotReady)


async def test_logits_that_are_not_finite_fail_one_photo_and_not_its_batch_mates() -> None:
    engine = FakeEngine()

    def run(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = engine.run(crops)
        logits[crops[:, 0, 0, 0] == 50] = np.nan
        return logits

    async with batching(run=run) as (batcher, _):
        good, bad = await answered(*submit(batcher, [job(25), job(50)]))
        assert good.probabilities.argmax() == 1
        assert isinstance(bad, EngineFailure)


@pytest.mark.parametrize(
    "wrong", [lambda rows: rows[:1], lambda rows: rows[0]], ids=["row", "flat"]
)
async def test_an_engine_that_answers_in_another_shape_fails_the_batch_and_not_the_next(
    wrong: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> None:
    engine, runs = FakeEngine(), list[int]()

    def run(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        runs.append(len(crops))
        return wrong(engine.run(crops)) if len(runs) == 1 else engine.run(crops)

    async with batching(run=run) as (batcher, _):
        for result in await answered(*submit(batcher, [job(25), job(50)])):
            assert isinstance(result, EngineFailure)
        (again,) = await answered(*submit(batcher, [job(75)]))
        assert again.probabilities.argmax() == 3
