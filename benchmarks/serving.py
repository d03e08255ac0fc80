"""Measures the server under overload, with a single client, while reloading, and streaming.

    python -m benchmarks.serving photos/ --output docs/records/serving_MACHINE_DATE

Server and generator share the machine, so only ratios are meaningful. Every experiment starts its
own server process. Writes OUTPUT.json.
"""

import argparse
import asyncio
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import grpc

from alexnet.bundle import Bundle
from alexnet_client.load.arrivals import punctual_loop
from alexnet_client.load.grpc import grpc_sender
from alexnet_client.load.point import Load, Point, percentiles
from alexnet_client.load.rest import rest_sender
from alexnet_client.load.run import run_point
from alexnet_client.photos import photos_in
from benchmarks.bare import measure_alone
from benchmarks.server import STARTER, Server, continued, describe_run, run_server
from benchmarks.steal import Steal
from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc

TIMEOUT_S = 0.5
ROUNDS = 6
FULL_LOAD = 24
"""Clients: two batches of the size with the lowest cost per photo."""
MAX_STEAL = 0.02
"""Share of CPU time; floods with more are no part of the medians, nor those with a problem."""


async def measure(
    server: Server, photos: Sequence[bytes], load: Load, protocol: str = "grpc"
) -> Point:
    connections = load.concurrency or 4
    sending = (
        rest_sender(server.http.removeprefix("http://"), photos, None, connections)
        if protocol == "rest"
        else grpc_sender(server.grpc, photos, None, connections)
    )
    async with sending as sender:
        point = await run_point(sender, load)
    outcomes = ", ".join(f"{n:,} {name}" for name, n in point.outcomes.items())
    print(f"  {load}: {point.goodput_per_s:.0f}/s in time; {outcomes}", flush=True)
    return point


async def run_alone(photos: Sequence[bytes], seconds: float) -> dict[str, Any]:
    """One connection: the latency besides decoding and inference."""
    async with run_server() as server:
        point = await measure(server, photos, Load(concurrency=1, seconds=seconds))
        address = server.http.removeprefix("http://")
        with Steal() as steal:
            bare = await asyncio.to_thread(measure_alone, address, photos, seconds)
    return {
        "stolen": round(steal.share, 4), "socket": bare,
        "latency_ms": point.latency_ms, "overhead_ms": point.overhead_ms,
        "decode_ms": point.server_ms["decode"], "infer_ms": point.server_ms["infer"],
    }  # fmt: skip


async def run_overload(
    photos: Sequence[bytes], seconds: float, protocol: str, apart: bool
) -> dict[str, Any]:
    """The peak load and three times as much, in turns; also with a third of the requests cancelled.
    `apart` gives the server one core and the generator another."""
    cores = os.sched_getaffinity(0)
    if apart:
        os.sched_setaffinity(0, {max(cores)})
    try:
        async with run_server(cores=[min(cores)] if apart else ()) as server:
            return await _alternate(server, photos, seconds, protocol)
    finally:
        os.sched_setaffinity(0, cores)


async def _alternate(
    server: Server, photos: Sequence[bytes], seconds: float, protocol: str
) -> dict[str, Any]:
    # No request is refused at this load: it measures the peak at the machine's current speed.
    full = Load(concurrency=FULL_LOAD, seconds=seconds / ROUNDS, timeout_s=TIMEOUT_S)
    memory: list[int] = []
    floods: dict[str, list[dict[str, Any]]] = {"stay": [], "a third leaves": []}
    # The speed of the machine drifts: each flood is compared with the peaks before and after it,
    # and left out if the hypervisor took much CPU time during any of the three.
    peak, stolen = await _with_steal(measure(server, photos, full, protocol))
    peaks = [peak.goodput_per_s]
    for turn in range(2 * ROUNDS):
        name, cancel = ("a third leaves", 1 / 3) if turn % 2 else ("stay", 0.0)
        rate, length = 3 * peaks[-1], seconds / ROUNDS
        load = Load(rate=rate, seconds=length, timeout_s=TIMEOUT_S, cancel=cancel)
        watcher = asyncio.create_task(_watch_memory(server, memory))
        flood, meanwhile = await _with_steal(measure(server, photos, load, protocol))
        watcher.cancel()
        peak, after = await _with_steal(measure(server, photos, full, protocol))
        peaks.append(peak.goodput_per_s)
        row = {"stolen": max(stolen, meanwhile, after), **_to_row(flood, sum(peaks[-2:]) / 2)}
        floods[name].append(row)
        stolen = after
    ratios = {
        name: [f["goodput_of_peak"] for f in turns if f["stolen"] < MAX_STEAL and not f["problem"]]
        for name, turns in floods.items()
    }
    medians = {name: median(found) if found else None for name, found in ratios.items()}
    counted = {name: len(found) for name, found in ratios.items()}
    measured = {"goodput_of_peak": medians, "counted": counted}
    return {**measured, "peak_per_s": peaks, "memory_mb": memory, **floods}


async def _with_steal(point: Awaitable[Point]) -> tuple[Point, float]:
    with Steal() as steal:
        found = await point
    return found, round(steal.share, 4)


def _to_row(point: Point, peak: float) -> dict[str, Any]:
    answered = point.outcomes.get("ok", 0)
    late = point.outcomes.get("late", 0) + point.outcomes.get("expired", 0)
    return {
        "goodput_of_peak": round(point.goodput_per_s / peak, 3),
        "accepted_in_time": round(answered / max(answered + late, 1), 4),
        "refused_p50_ms": point.refusal_ms.get("p50"),
        **asdict(point),
    }


async def _watch_memory(server: Server, memory: list[int]) -> None:
    while True:
        memory.append(round(await server.metric("process_resident_memory_bytes") / 1e6))
        await asyncio.sleep(5)


async def run_reload(photos: Sequence[bytes], seconds: float) -> dict[str, Any]:
    """Runs at half of the peak rate, with and without loading new versions, in turns, to cancel the
    drift of the machine's speed."""
    with tempfile.TemporaryDirectory() as folder:
        versions = Path(folder) / "alexnet"
        versions.mkdir()
        Bundle.open(STARTER).write(versions / "1")
        async with run_server("--model", str(versions), "--repository-control", "local") as server:
            most = await measure(server, photos, Load(concurrency=16, seconds=seconds / 12))
            rate = round(most.goodput_per_s / 2)
            quiet, exchanging, swaps = [], [], list[float]()
            for seed in range(ROUNDS):
                load = Load(rate=rate, seconds=seconds / ROUNDS, timeout_s=5.0, seed=seed)
                quiet.append(await measure(server, photos, load))
                async with swap_versions(server, versions) as swapped:
                    exchanging.append(await measure(server, photos, load))
                swaps += swapped
    ratios = [
        round(e.latency_ms["p99"] / q.latency_ms["p99"], 2)
        for q, e in zip(quiet, exchanging, strict=True)
    ]
    requests = sum(point.requests for point in exchanging)
    return {
        "rate": rate, "requests": requests,
        "failed": requests - sum(point.outcomes["ok"] for point in exchanging),
        "swaps": len(swaps), "swap_s": percentiles(s / 1000 for s in swaps),
        "p99_ratios": ratios, "p99_ratio": median(ratios),
        "quiet_ms": [point.latency_ms for point in quiet],
        "exchanging_ms": [point.latency_ms for point in exchanging],
    }  # fmt: skip


@asynccontextmanager
async def swap_versions(server: Server, versions: Path) -> AsyncIterator[list[float]]:
    """While the block runs, a version after the other is loaded, a second apart; their seconds."""
    swaps: list[float] = []
    task = asyncio.create_task(_swap(server, versions, swaps, stop := asyncio.Event()))
    try:
        yield swaps
    finally:
        stop.set()
        await task


async def _swap(server: Server, versions: Path, swaps: list[float], stop: asyncio.Event) -> None:
    async with aiohttp.ClientSession(server.http) as session:
        while not stop.is_set():
            last = max(int(each.name) for each in versions.iterdir())
            shutil.copytree(versions / str(last), versions / "new", copy_function=os.link)
            (versions / "new").rename(versions / str(last + 1))
            start = time.monotonic()
            async with session.post("/v2/repository/models/alexnet/load") as response:
                assert response.status == 200, await response.text()
            swaps.append(time.monotonic() - start)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 1)


async def run_streams(photos: Sequence[bytes], seconds: float, at_once: int) -> dict[str, Any]:
    """The same photos and number in flight: one call for each, and one call for all; in turns."""
    requests = [pb.ClassifyRequest(image=photo, timeout_ms=5000) for photo in photos]
    rates: dict[str, list[float]] = {"unary": [], "stream": []}
    async with run_server() as server, grpc.aio.insecure_channel(server.grpc) as channel:
        stub = pb_grpc.ClassifierStub(channel)
        for _ in range(3):
            for name, ask in (("unary", _unary), ("stream", _stream)):
                rates[name].append(await ask(stub, requests, at_once, seconds))
                print(f"  {name}: {rates[name][-1]:.0f}/s", flush=True)
    ratios = [s / u for s, u in zip(rates["stream"], rates["unary"], strict=True)]
    return {"at_once": at_once, **rates, "stream_by_unary": sorted(ratios)[1]}


async def stream_rate(
    address: str, photos: Sequence[bytes], streams: int, window: int, seconds: float
) -> float:
    """Photos a second over so many streams on one connection, `window` in flight on each."""
    requests = [pb.ClassifyRequest(image=photo, timeout_ms=5000) for photo in photos]
    async with grpc.aio.insecure_channel(address) as channel:
        stub = pb_grpc.ClassifierStub(channel)
        rates = await asyncio.gather(
            *(_stream(stub, requests, window, seconds) for _ in range(streams))
        )
    return sum(rates)


async def _unary(stub: Any, requests: Sequence[Any], at_once: int, seconds: float) -> float:
    answered, start = 0, time.monotonic()

    async def caller(first: int) -> None:
        nonlocal answered
        at = first
        while time.monotonic() - start < seconds:
            await stub.Classify(requests[at % len(requests)], timeout=5)
            answered, at = answered + 1, at + at_once

    await asyncio.gather(*(caller(i) for i in range(at_once)))
    return answered / (time.monotonic() - start)


async def _stream(stub: Any, requests: Sequence[Any], at_once: int, seconds: float) -> float:
    room, start, answered = asyncio.Semaphore(at_once), time.monotonic(), 0
    call = stub.ClassifyStream()

    async def send() -> None:
        at = 0
        while time.monotonic() - start < seconds:
            await room.acquire()
            await call.write(requests[at % len(requests)])
            at += 1
        await call.done_writing()

    sending = asyncio.create_task(send())
    while (answer := await call.read()) is not grpc.aio.EOF:
        answered += answer.HasField("response")
        room.release()
    await sending
    return answered / (time.monotonic() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="without a suffix")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the long experiments")
    parser.add_argument("--only", help="one experiment, by name")
    options = parser.parse_args()
    photos = [photo.read() for photo in photos_in(options.photos)]
    s = options.seconds
    experiments: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
        "lone": lambda: run_alone(photos, s / 3),
        "rest": lambda: run_overload(photos, s, "rest", apart=False),
        "grpc": lambda: run_overload(photos, s, "grpc", apart=False),
        "rest, apart": lambda: run_overload(photos, s, "rest", apart=True),
        "grpc, apart": lambda: run_overload(photos, s, "grpc", apart=True),
        "reload": lambda: run_reload(photos, s),
        "streams": lambda: run_streams(photos, s / 6, 32),
    }
    file = options.output.with_suffix(".json")
    found = continued(
        file, describe_run("python -m benchmarks.serving " + shlex.join(sys.argv[1:]))
    )
    for name, experiment in experiments.items():
        if options.only in (None, name):
            print(name, flush=True)
            with asyncio.Runner(loop_factory=punctual_loop) as runner:
                found[name] = runner.run(experiment())  # type: ignore[arg-type]
            file.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
