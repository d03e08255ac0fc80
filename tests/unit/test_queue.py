"""Which job is next."""

import numpy as np
import pytest

from server.scheduler.job import Job
from server.scheduler.queue import SHARE, FairQueue
from tests.batching import request


def job(deadline: float, level: int = 1) -> Job:
    return Job(request(0.0, deadline, level), deadline, level)


async def test_the_earliest_deadline_goes_first_and_equals_in_the_order_they_came() -> None:
    queue = FairQueue(1)
    late, first, second = job(9.0), job(1.0), job(1.0)
    for each in (late, first, second):
        queue.push(each)
    assert queue.pop() is first
    queue.put_back(first)
    assert queue.clear() == [first, second, late]


async def test_a_job_that_is_put_back_changes_nothing() -> None:
    queue, twin = FairQueue(3), FairQueue(3)
    rng = np.random.default_rng(1)
    for each in [job(float(rng.integers(9)), int(rng.integers(1, 4))) for _ in range(60)]:
        queue.push(each)
        twin.push(each)
    for _ in range(60):
        queue.put_back(queue.pop())
        assert queue.earliest == twin.earliest
        assert queue.pop() is twin.pop()


async def test_levels_that_both_wait_share_and_none_is_starved() -> None:
    queue = FairQueue(2)
    for i in range(100):
        queue.push(job(float(i), 1))
        queue.push(job(0.0, 2))  # an early deadline is no way around a priority
    levels = [queue.pop().level for _ in range(50)]
    assert levels.count(2) == 50 // (SHARE + 1)
    assert levels[:SHARE] == [1] * SHARE


async def test_a_level_alone_gets_everything_and_saves_up_nothing() -> None:
    queue = FairQueue(2)
    for _ in range(1000):
        queue.push(job(1.0, 2))
        queue.pop()
    for _ in range(50):
        queue.push(job(1.0, 1))
        queue.push(job(1.0, 2))
    levels = [queue.pop().level for _ in range(50)]
    # 1000 turns of the other level earn level 1 no monopoly; the last of them counts.
    assert levels.count(2) in (50 // (SHARE + 1) - 1, 50 // (SHARE + 1))


async def test_a_level_that_was_empty_has_saved_up_nothing() -> None:
    queue = FairQueue(2)
    for _ in range(1000):
        queue.push(job(1.0, 1))
        queue.pop()
    for _ in range(100):
        queue.push(job(1.0, 1))
        queue.push(job(1.0, 2))
    levels = [queue.pop().level for _ in range(10 * (SHARE + 1))]
    assert levels.count(2) in (10, 11)


async def test_a_removed_job_is_gone_at_once() -> None:
    queue = FairQueue(1)
    stay, go = job(1.0), job(1.0)
    queue.push(stay)
    queue.push(go)
    assert queue.remove(go)
    assert not queue.remove(go)
    assert len(queue.jobs) == 1
    assert go not in queue.jobs
    assert queue.clear() == [stay]


async def test_an_empty_queue_gives_nothing() -> None:
    with pytest.raises(IndexError):
        FairQueue(3).pop()


async def test_the_jobs_before_a_newcomer_are_those_that_pop_gives_before_it() -> None:
    """From equal clocks, for random queues of one to three levels."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        levels = int(rng.integers(1, 4))
        queue = FairQueue(levels)
        jobs = [
            job(float(rng.integers(0, 20)), int(rng.integers(1, levels + 1)))
            for _ in range(int(rng.integers(0, 30)))
        ]
        for each in jobs:
            queue.push(each)
        newcomer = job(float(rng.integers(0, 20)), int(rng.integers(1, levels + 1)))
        before, after = queue.around(newcomer.level, newcomer.deadline)
        assert sorted(map(id, before + after)) == sorted(map(id, jobs))
        queue.push(newcomer)
        order = queue.clear()
        ahead = set(order[: order.index(newcomer)])
        same = {each for each in jobs if each.level == newcomer.level}
        assert ahead & same == set(before) & same
        # Of the other levels the share decides, give or take the one that is being served.
        for level in range(1, levels + 1):
            count = [sum(each.level == level for each in group) for group in (ahead, before)]
            assert abs(count[0] - count[1]) <= max(1, SHARE ** (newcomer.level - level))


async def test_the_first_deadline_of_all_levels_is_known_whichever_is_next() -> None:
    queue = FairQueue(3)
    for each in (job(9.0, 1), job(2.0, 2), job(5.0, 2), job(7.0, 3)):
        queue.push(each)
    found = []
    while queue.jobs:
        found.append((queue.earliest, queue.pop().level))
    assert found == [(2.0, 1), (2.0, 2), (5.0, 2), (7.0, 3)]
    with pytest.raises(ValueError, match="empty"):
        _ = queue.earliest
