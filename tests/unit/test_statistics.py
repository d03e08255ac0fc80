"""What is counted of requests, and what of runs of the engine."""

import time

from server.telemetry.counts import Statistics, Timing


def test_a_request_counts_once_with_the_stages_of_its_slowest_photo() -> None:
    counted = Statistics()
    quick = Timing(decode=0.001, queue=0.001, infer=0.001, total=0.003, batch_size=2)
    slow = Timing(decode=0.002, queue=0.004, infer=0.003, total=0.009, batch_size=1)
    counted.answered([quick, slow], total_s=0.010)
    assert (counted.photos, counted.success.count, counted.executions) == (2, 1, 0)
    assert abs(counted.last_ms - time.time() * 1000) < 5_000
    stages = (counted.queue, counted.decode, counted.infer, counted.output, counted.success)
    assert [(s.count, s.ns) for s in stages] == [
        (1, 4_000_000), (1, 2_000_000), (1, 3_000_000), (1, 1_000_000), (1, 10_000_000),
    ]  # fmt: skip


def test_failures_are_counted_by_reason() -> None:
    counted = Statistics()
    for reason in ("expired", "engine", "expired"):
        counted.failed(0.5, reason)
    assert (counted.fail.count, counted.fail.ns) == (3, 1_500_000_000)
    assert counted.reasons == {"expired": 2, "engine": 1}
    assert counted.success.count == 0


def test_runs_of_the_engine_are_counted_by_size() -> None:
    counted = Statistics()
    for size in (4, 1, 4):
        counted.executed(size, 0.25)
    assert counted.executions == 3
    assert {size: (runs.count, runs.ns) for size, runs in counted.batches.items()} == {
        4: (2, 500_000_000),
        1: (1, 250_000_000),
    }
