"""What is counted of requests, of photos and of runs of the engine, in one process and in two."""

import json
import time
from typing import Any

from server.telemetry.counts import STAGES, Counts, Timing


def timing(total: float = 0.021, **stages: float) -> Timing:
    given: Any = {**dict.fromkeys(STAGES, 0.001), "total": total, **stages}
    return Timing(**given, batch_size=1)


def test_a_request_counts_once_with_the_stages_of_its_slowest_photo() -> None:
    counted = Counts()
    quick = timing(0.003)
    slow = timing(0.009, decode_queue=0.001, batch_queue=0.003, decode=0.002, infer=0.003)
    counted.answered([quick, slow], total_s=0.010)
    assert (counted.photos, counted.success.count, counted.executions) == (2, 1, 0)
    assert abs(counted.last_ms - time.time() * 1000) < 5_000
    stages = (counted.queue, counted.decode, counted.infer, counted.output, counted.success)
    assert [(s.count, s.ns) for s in stages] == [
        (1, 4_000_000), (1, 2_000_000), (1, 3_000_000), (1, 1_000_000), (1, 10_000_000),
    ]  # fmt: skip


def test_both_queues_are_waiting() -> None:
    assert timing(decode_queue=0.25, batch_queue=0.5).queue == 0.75


def test_failures_are_counted_by_tritons_reason() -> None:
    counted = Counts()
    for reason in ("REJECTED", "BACKEND", "REJECTED"):
        counted.failed(reason, 0.5)
    assert (counted.fail.count, counted.fail.ns) == (3, 1_500_000_000)
    assert counted.failures == {"REJECTED": 2, "BACKEND": 1}
    assert counted.success.count == 0


def test_runs_of_the_engine_are_counted_by_size() -> None:
    counted = Counts()
    for size in (4, 1, 4):
        counted.executed(size, 0.25)
    assert counted.executions == 3
    assert {size: (runs.count, runs.ns) for size, runs in counted.batches.items()} == {
        4: (2, 500_000_000),
        1: (1, 250_000_000),
    }


def test_the_counts_of_two_processes_are_added_to_those_of_one() -> None:
    """They come from another process as JSON, whose keys are text."""

    def first(counted: Counts) -> None:
        counted.answered([timing(), timing(0.5, decode=0.25)], 0.75)
        counted.failed("REJECTED", 0.5)
        counted.executed(1, 0.25)
        counted.executed(4, 0.5)

    def second(counted: Counts) -> None:
        counted.answered([timing()], 0.125)
        counted.failed("OTHER", 0.5)
        counted.failed("REJECTED", 0.25)
        counted.executed(4, 0.5)
        counted.executed(16, 1.0)

    one, mine, other = Counts(), Counts(), Counts()
    first(one)
    second(one)
    first(mine)
    second(other)
    one.last_ms, mine.last_ms, other.last_ms = 2000, 1000, 2000
    sent = [Counts.from_json(json.loads(json.dumps(each.to_json()))) for each in (mine, other)]
    assert sent == [mine, other]
    assert sent[0] + sent[1] == sent[1] + sent[0] == one
    assert mine + Counts() == mine
    assert (mine.photos, other.photos) == (2, 1), "adding changes neither of them"
