"""The load generator over real sockets, against servers with scripted answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from aiohttp import web

from alexnet_client.classifier_pb2 import ClassifyRequest
from alexnet_client.load.grpc import grpc_sender
from alexnet_client.load.point import Load, Point
from alexnet_client.load.rest import rest_sender
from alexnet_client.load.run import run_point
from tests.service.load_fake import (
    WARM_UP_REQUESTS,
    Answer,
    Server,
    after_warm_up,
    at_once,
    serving,
)

PHOTOS = [b"one", b"two"]
BRIEF = Load(rate=100, seconds=0.3, timeout_s=5)


async def over_grpc(
    answer: Answer = at_once, load: Load = BRIEF, **options: Any
) -> tuple[Point, Server]:
    async with serving(answer) as server, grpc_sender(server.address, PHOTOS, **options) as sender:
        return await run_point(sender, load), server


def stall_once(after: int, seconds: float) -> Answer:
    """Stalls once, for so many seconds, from the `after`-th request on."""
    gate, count = asyncio.Event(), 0
    gate.set()

    async def answer(request: ClassifyRequest, context: Any) -> None:
        nonlocal count
        count += 1
        if count == after:
            gate.clear()
            asyncio.get_running_loop().call_later(seconds, gate.set)
        await gate.wait()

    return answer


async def test_the_servers_own_figures_are_collected() -> None:
    point, server = await over_grpc(priority=3)
    assert point.outcomes == {"ok": point.requests}
    assert len(server.requests) == point.requests + WARM_UP_REQUESTS
    assert {request.image for request in server.requests} == set(PHOTOS)
    assert {request.priority for request in server.requests} == {3}
    assert (point.versions, point.batch_size) == ({"7": point.requests}, 2)
    assert (point.server_ms["decode"]["p50"], point.server_ms["infer"]["p50"]) == (2, 3)
    assert point.latency_ms["p50"] - point.overhead_ms["p50"] == pytest.approx(5, abs=0.01)
    assert point.generator_cpu_ms > 0


async def test_each_connection_is_a_separate_one() -> None:
    _, server = await over_grpc(connections=3)
    assert len(server.peers) == 3


async def test_a_stall_is_in_the_latency_of_all_requests_due_during_it() -> None:
    point, _ = await over_grpc(stall_once(50, 0.3), Load(rate=200, seconds=1, timeout_s=5))
    assert point.outcomes == {"ok": point.requests}
    assert point.requests > 150
    # 0.3 of 1 s: three tenths of the requests waited, two thirds of these for 0.1 s or longer.
    assert point.latency_ms["p90"] > 100
    assert point.latency_ms["p99"] > 200


async def test_a_closed_loop_sends_no_requests_during_a_stall() -> None:
    point, _ = await over_grpc(
        stall_once(50, 0.3), Load(concurrency=1, seconds=1, timeout_s=5), connections=1
    )
    assert point.requests > 40
    assert point.latency_ms["max"] > 290
    assert point.latency_ms["p90"] < 290


@pytest.mark.parametrize(
    ("code", "reason", "outcome"),
    [
        ("DEADLINE_EXCEEDED", "would_miss_deadline", "would_miss_deadline"),
        ("DEADLINE_EXCEEDED", "expired", "late"),
        ("RESOURCE_EXHAUSTED", "overloaded", "overloaded"),
        ("RESOURCE_EXHAUSTED", "", "overloaded"),
        ("UNAVAILABLE", "not_ready", "not_ready"),
        ("CANCELLED", "", "cancelled_by_server"),
    ],
)
async def test_refusals_are_counted_by_reason_and_never_retried(
    code: str, reason: str, outcome: str
) -> None:
    async def refuse(request: ClassifyRequest, context: Any) -> None:
        trailers = (("alexnet-reason", reason),) if reason else ()
        await context.abort(grpc.StatusCode[code], "no", trailers)

    point, server = await over_grpc(after_warm_up(refuse))
    assert point.outcomes == {outcome: point.requests}
    assert len(server.requests) == point.requests + WARM_UP_REQUESTS
    assert bool(point.refusal_ms) is (outcome in {"would_miss_deadline", "overloaded"})
    assert (point.goodput_per_s, point.latency_ms) == (0, {})


async def test_a_request_without_an_answer_by_its_deadline_is_late() -> None:
    remaining: list[float] = []

    async def wait(request: ClassifyRequest, context: Any) -> None:
        remaining.append(context.time_remaining())
        await asyncio.Event().wait()

    async with asyncio.timeout(5):
        point, _ = await over_grpc(after_warm_up(wait), Load(rate=100, seconds=0.3, timeout_s=0.2))
    assert point.outcomes == {"late": point.requests}
    assert max(remaining) < 0.21


async def test_cancellations_reach_the_server() -> None:
    async def wait(request: ClassifyRequest, context: Any) -> None:
        await asyncio.Event().wait()

    load = Load(rate=100, seconds=0.5, timeout_s=0.5, cancel=0.5)
    async with (
        serving(after_warm_up(wait)) as server,
        grpc_sender(server.address, PHOTOS) as sender,
    ):
        point = await run_point(sender, load)
        async with asyncio.timeout(5):  # at its deadline, too, a call is cancelled in the server
            # On a slow machine a call may end before the server has begun it.
            while server.cancelled < (begun := len(server.requests) - WARM_UP_REQUESTS):
                await asyncio.sleep(0.005)
    assert begun > point.requests / 2
    assert point.outcomes.keys() == {"cancelled", "late"}
    assert 0.2 < point.share("cancelled") < 0.8


@asynccontextmanager
async def rest(handler: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    app = web.Application()
    app.add_routes([web.post("/v1/classify", handler)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield site.name.removeprefix("http://")
    finally:
        await runner.cleanup()


async def test_rest_counts_what_grpc_counts() -> None:
    bodies, headers = set(), set()
    replies = [
        web.Response(status=504, text='{"error": {"code": "would_miss_deadline"}}'),
        web.Response(status=429, text='{"error": {"code": "overloaded"}}'),
        web.Response(status=502, text="<h1>a proxy</h1>"),
    ]

    async def answer(request: web.Request) -> web.Response:
        bodies.add(await request.read())
        headers.add(request.headers["x-request-priority"])
        assert 0 < int(request.headers["x-request-timeout-ms"]) <= 10_000
        if len(bodies) == 2 and replies and int(request.headers["x-request-timeout-ms"]) <= 5000:
            return replies.pop()
        return web.json_response(
            {
                "timing_ms": {"decode": 2, "queue": 1, "infer": 3, "total": 6},
                "batch_size": 1,
                "model": {"version": "7"},
            }
        )

    async with rest(answer) as address, rest_sender(address, PHOTOS, priority=2) as sender:
        point = await run_point(sender, BRIEF)
    refused = {"would_miss_deadline": 1, "overloaded": 1, "http_502": 1}
    assert point.outcomes == {"ok": point.requests - 3, **refused}
    assert (bodies, headers) == (set(PHOTOS), {"2"})
    assert point.versions == {"7": point.requests - 3}
    assert point.server_ms["total"]["p99"] == 6
