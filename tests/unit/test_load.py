"""The load generator without a network: arrivals, outcomes, lag, the knee."""

import asyncio
import math
import time
from collections.abc import Sequence
from random import Random
from statistics import mean, stdev
from typing import Any

import pytest

from alexnet_client.classifier_pb2 import ClassifyResponse, ModelVersion, Timing
from alexnet_client.load.arrivals import draw_arrivals, punctual_loop
from alexnet_client.load.knee import measure_around_knee
from alexnet_client.load.point import Load, Point, Request, percentiles, summarise
from alexnet_client.load.report import format_notes, format_row
from alexnet_client.load.run import NoAnswerError, run_point
from alexnet_client.load.sender import OK, Reply, Sender, outcome_of


def body(batch_size: int = 1, version: str = "1", infer_ms: float = 3.0) -> bytes:
    timing = Timing(decode_ms=2, queue_ms=1, infer_ms=infer_ms, total_ms=7, batch_size=batch_size)
    return ClassifyResponse(model=ModelVersion(version=version), timing=timing).SerializeToString()


class Server:
    """Answers while its gate is open; a request that waits longer than its timeout is late."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.seen = 0
        self.sender = Sender(3, 2, self._send, ClassifyResponse.FromString)

    async def _send(self, photo: int, timeout_s: float) -> Reply:
        self.seen += 1
        try:
            async with asyncio.timeout(timeout_s):
                await self.gate.wait()
        except TimeoutError:
            return Reply("late")
        return Reply(OK, body())


def point_of(sent: Sequence[Request], load: Load | None = None) -> Point:
    return summarise(load or Load(rate=10, seconds=1, timeout_s=0.5), sent, Server().sender, 0.0)


def ok(due: float, latency: float, **reply: Any) -> Request:
    return Request(due, due, due + latency, OK, body(**reply))


def test_arrivals_have_exponential_gaps_of_the_right_mean() -> None:
    times = draw_arrivals(100, 200, Random(0))
    gaps = [b - a for a, b in zip([0.0, *times], times, strict=False)]
    assert len(times) == pytest.approx(20_000, abs=4 * math.sqrt(20_000))
    assert mean(gaps) == pytest.approx(0.01, rel=0.03)
    assert stdev(gaps) == pytest.approx(0.01, rel=0.05)
    assert mean(gap > 0.01 for gap in gaps) == pytest.approx(1 / math.e, abs=0.015)
    assert all(gap > 0 for gap in gaps)
    assert times[-1] < 200


def test_the_seed_decides_the_arrivals() -> None:
    assert draw_arrivals(50, 5, Random(1)) == draw_arrivals(50, 5, Random(1))
    assert draw_arrivals(50, 5, Random(1)) != draw_arrivals(50, 5, Random(2))


@pytest.mark.skipif("sys.platform != 'linux'", reason="other loops wake up on time by themselves")
def test_the_loop_wakes_up_within_a_millisecond() -> None:
    async def shortest() -> float:
        lasted = []
        for _ in range(50):
            start = time.perf_counter()
            await asyncio.sleep(0.0002)
            lasted.append(time.perf_counter() - start)
        return min(lasted)

    with asyncio.Runner(loop_factory=punctual_loop) as runner:
        assert 0.0002 <= runner.run(shortest()) < 0.001


def test_percentiles_are_measured_values() -> None:
    ranked = percentiles(i / 1000 for i in range(1000, 0, -1))
    assert ranked == {"p50": 500, "p90": 900, "p95": 950, "p99": 990, "p99.9": 999, "max": 1000}
    assert set(percentiles([0.25]).values()) == {250}
    assert percentiles([]) == {}


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        ("DEADLINE_EXCEEDED", "late"),
        ("expired", "late"),
        ("would_miss_deadline", "would_miss_deadline"),
        ("RESOURCE_EXHAUSTED", "overloaded"),
        ("CANCELLED", "cancelled_by_server"),
        ("INTERNAL", "internal"),
    ],
)
def test_an_outcome_has_one_name_on_all_protocols(reason: str, name: str) -> None:
    assert outcome_of(reason) == name


def test_goodput_counts_answers_before_the_deadline_and_the_end_of_the_run() -> None:
    in_time, after_the_deadline = ok(0.1, 0.2), ok(0.2, 0.6)
    after_the_end = ok(0.9, 0.3)
    refused = Request(0.5, 0.5, 0.51, "would_miss_deadline", b"")
    p = point_of([in_time, after_the_deadline, after_the_end, refused])
    assert p.goodput_per_s == 1
    assert p.offered_per_s == p.requests == 4
    assert p.outcomes == {"ok": 2, "late": 1, "would_miss_deadline": 1}
    assert p.share("late", "would_miss_deadline") == 0.5
    assert p.latency_ms["max"] == pytest.approx(600)
    assert p.refusal_ms["p50"] == pytest.approx(10)


def test_the_servers_own_times_stand_beside_the_latency() -> None:
    p = point_of([ok(0, 0.012, infer_ms=4, version="a"), ok(0, 0.020, version="b")])
    assert [p.server_ms[stage]["max"] for stage in ("decode", "queue", "infer", "total")] == [
        2, 1, 4, 7
    ]  # fmt: skip
    assert p.overhead_ms["p50"] == pytest.approx(12 - 2 - 4)
    assert p.overhead_ms["max"] == pytest.approx(20 - 2 - 3)
    assert p.versions == {"a": 1, "b": 1}


def test_a_batch_counts_once_however_many_answers_report_it() -> None:
    alone, three = [ok(0, 0.1)], [ok(0, 0.1, batch_size=3)] * 3
    assert point_of([*alone, *three]).batch_size == 2  # two runs, four photos
    assert point_of([]).batch_size is None


def test_latency_counts_from_the_moment_a_request_was_due() -> None:
    p = point_of([Request(0.1, 0.13, 0.14, OK, body())])
    assert p.latency_ms["p50"] == pytest.approx(40)
    assert p.lag_ms["p50"] == pytest.approx(30)
    assert "late" in p.problem


def test_lag_may_be_a_small_part_of_the_latency() -> None:
    assert not point_of([Request(0.1, 0.13, 0.5, OK, body())]).problem


async def test_a_generator_that_lags_is_reported_as_a_problem() -> None:
    server = Server()

    async def blocks(photo: int, timeout_s: float) -> Reply:
        reply = await server._send(photo, timeout_s)
        if server.seen == 20:
            time.sleep(0.1)  # this process is busy with something else
        return reply

    sender = Sender(1, 1, blocks, ClassifyResponse.FromString)
    p = await run_point(sender, Load(rate=200, seconds=0.5))
    assert p.lag_ms["max"] > 50
    assert p.latency_ms["max"] > 50, "the lag is not taken off the latency"
    assert "generator" in p.problem
    assert format_row(p).endswith("!")
    assert next(iter(format_notes([p]))).startswith("! 200/s: the generator itself was late")


async def test_requests_in_flight_are_limited_and_those_not_sent_are_counted() -> None:
    server = Server()
    load = Load(rate=200, seconds=0.3, timeout_s=5, max_in_flight=4)
    run = asyncio.create_task(run_point(server.sender, load))
    async with asyncio.timeout(5):
        while server.seen < 8:  # the warm-up
            await asyncio.sleep(0)
        server.gate.clear()
        while server.seen < 12:
            await asyncio.sleep(0.001)
        asyncio.get_running_loop().call_later(0.35, server.gate.set)
        p = await run
    assert p.outcomes["ok"] >= 4
    assert p.outcomes["not_sent"] == p.requests - p.outcomes["ok"] > 10
    assert "not sent" in p.problem


async def test_cancelled_requests_are_not_waited_for() -> None:
    server = Server()
    run = asyncio.create_task(
        run_point(server.sender, Load(rate=100, seconds=0.3, timeout_s=0.2, cancel=1))
    )
    while server.seen < 8:
        await asyncio.sleep(0)
    server.gate.clear()
    p = await run
    assert p.goodput_per_s < 10
    assert p.share("cancelled") > 0.9


async def test_the_seed_decides_what_is_sent() -> None:
    async def photos(seed: int) -> list[int]:
        sent: list[int] = []

        async def send(photo: int, timeout_s: float) -> Reply:
            sent.append(photo)
            return Reply(OK, body())

        sender = Sender(100, 1, send, ClassifyResponse.FromString)
        await run_point(sender, Load(rate=500, seconds=0.1, seed=seed))
        return sent

    assert await photos(1) == await photos(1)
    assert await photos(1) != await photos(2)


async def test_a_closed_loop_has_as_many_in_flight_as_clients() -> None:
    at_once = most = 0

    async def send(photo: int, timeout_s: float) -> Reply:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        return Reply(OK, body())

    sender = Sender(1, 1, send, ClassifyResponse.FromString)
    p = await run_point(sender, Load(concurrency=3, seconds=0.1))
    assert most == 3
    assert p.requests > 10
    assert format_row(p).split()[0] == "3"


async def test_a_failed_warm_up_ends_the_run() -> None:
    async def send(photo: int, timeout_s: float) -> Reply:
        return Reply("unavailable" if photo else "not_ready")

    with pytest.raises(NoAnswerError, match="not_ready, unavailable"):
        await run_point(Sender(2, 2, send, ClassifyResponse.FromString), Load(rate=1))


async def test_rates_below_and_above_the_knee_are_measured() -> None:
    rates: list[float] = []

    async def goodput_at(rate: float) -> float:
        rates.append(rate)
        return min(rate, 230.0)

    await measure_around_knee(goodput_at)
    assert rates == [25, 50, 100, 200, 400, 800, 160, 200, 230, 280, 320]


async def test_without_goodput_at_the_first_rate_the_search_ends() -> None:
    rates: list[float] = []

    async def goodput_at(rate: float) -> float:
        rates.append(rate)
        return 0.0

    await measure_around_knee(goodput_at)
    assert rates == [25]
