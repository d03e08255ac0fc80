"""How near the server is to what its parts allow: decoding and the engine, without a server.

    python -m benchmarks.limit ../shared/photos

Round by round, on all cores: photos are decoded; crops are run by the engine; both at once, which
is the limit; then the server is asked over REST and gRPC. Only ratios within a round mean
something. The milliseconds of CPU a photo say where the rest goes; those of the load generator,
which runs on the same cores, are no fault of the server.
"""

import argparse
import asyncio
import json
import os
import resource
import threading
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from queue import Queue
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.bundle import Bundle
from alexnet.preprocess import preprocess
from alexnet_client.load.arrivals import punctual_loop
from alexnet_client.load.point import Load
from alexnet_client.load.run import WARM_UP
from benchmarks.peers.__main__ import PHOTOS, photos_of
from benchmarks.quick import engine_of
from benchmarks.server import STARTER, Server, describe_run, run_server
from benchmarks.serving import measure

BATCH, CALLERS = 16, 16
PROTOCOLS = "rest", "grpc"
CPU = "process_cpu_seconds_total"

Decode = Callable[[int], NDArray[np.uint8]]
"""The crop of the photo with this number."""


class Parts:
    """Each gives photos a second and seconds of CPU a photo."""

    def __init__(self, photos: Sequence[bytes], bundle: Bundle, cores: int):
        self._engine = engine_of(bundle, cores)
        self._cores = cores
        self._decode: Decode = lambda n: (
            preprocess(photos[n % len(photos)], bundle.manifest.preprocess).crop
        )
        self._crops = [self._decode(n) for n in range(BATCH)]
        self._engine.begin(self._crops)()  # warm

    def decoding(self, seconds: float) -> tuple[float, float]:
        return self._through(lambda crops: crops.get(), 1, seconds)

    def engine(self, seconds: float) -> tuple[float, float]:
        return timed(lambda: self._run(self._crops), BATCH, seconds)

    def both(self, seconds: float) -> tuple[float, float]:
        return self._through(
            lambda crops: self._run([crops.get() for _ in range(BATCH)]), BATCH, seconds
        )

    def _run(self, crops: list[NDArray[np.uint8]]) -> None:
        self._engine.begin(crops)()

    def _through(
        self, take: Callable[[Queue[NDArray[np.uint8]]], object], size: int, seconds: float
    ) -> tuple[float, float]:
        """While a thread a core decodes; what is decoded waits in a short queue."""
        crops: Queue[NDArray[np.uint8]] = Queue(2 * BATCH)
        numbers, over = count(), threading.Event()

        def decode() -> None:
            while not over.is_set():
                crops.put(self._decode(next(numbers)))

        threads = [threading.Thread(target=decode) for _ in range(self._cores)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(2 * BATCH):  # the queue begins as full as it stays
                crops.get()
            return timed(lambda: take(crops), size, seconds)
        finally:
            over.set()
            while any(thread.is_alive() for thread in threads):
                while not crops.empty():
                    crops.get()
                time.sleep(0.01)


def timed(work: Callable[[], object], size: int, seconds: float) -> tuple[float, float]:
    """Photos a second and seconds of CPU a photo of work on so many photos at a time."""
    done, start, cpu_s = 0, time.perf_counter(), own_cpu_s()
    while (took := time.perf_counter() - start) < seconds:
        work()
        done += size
    return done / took, (own_cpu_s() - cpu_s) / done


def own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def served(
    server: Server, photos: Sequence[bytes], protocol: str, seconds: float, seed: int
) -> tuple[float, float, float]:
    """Photos a second, and seconds of CPU a photo of the server and of the load generator."""
    load = Load(concurrency=CALLERS, seconds=seconds, timeout_s=5.0, seed=seed)
    before, ours = await server.metric(CPU), own_cpu_s()
    point = await measure(server, photos, load, protocol)
    photos_asked = sum(point.outcomes.values()) + WARM_UP * CALLERS
    theirs = await server.metric(CPU) - before
    return point.goodput_per_s, theirs / photos_asked, (own_cpu_s() - ours) / photos_asked


async def measure_rounds(
    photos: Sequence[bytes], rounds: int, seconds: float
) -> list[dict[str, Any]]:
    parts = Parts(photos, Bundle.open(STARTER), len(os.sched_getaffinity(0)))
    found = []
    async with run_server("--log-level", "warning") as server:
        for seed in range(rounds):
            row: dict[str, Any] = {}
            for name in ("decoding", "engine", "both"):
                rate, cpu_s = await asyncio.to_thread(getattr(parts, name), seconds)
                row[name] = {"per_s": rate, "cpu_ms": 1000 * cpu_s}
                print(f"  {name}: {rate:.0f}/s, {1000 * cpu_s:.2f} ms of CPU a photo", flush=True)
            for name in PROTOCOLS:
                rate, cpu_s, load_s = await served(server, photos, name, seconds, seed)
                row[name] = {"per_s": rate, "cpu_ms": 1000 * cpu_s, "load_ms": 1000 * load_s}
            found.append(row)
    return found


def table(rounds: Sequence[dict[str, Any]]) -> str:
    """For the page of a record: medians over the rounds, and the ratios with their spread."""
    lines = [
        "| | photos/s | **by the limit** | CPU a photo, ms | of the load generator, ms |",
        "|---|---|---|---|---|",
    ]
    for name, text in (
        ("decoding", "decoding alone"), ("engine", "the engine alone"),
        ("both", "both: the limit"), ("rest", "REST"), ("grpc", "gRPC"),
    ):  # fmt: skip
        ratios = [row[name]["per_s"] / row["both"]["per_s"] for row in rounds]
        rate, cpu = (median(row[name][key] for row in rounds) for key in ("per_s", "cpu_ms"))
        load = f"{median(row[name]['load_ms'] for row in rounds):.2f}" if name in PROTOCOLS else ""
        spread = f"**{median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {text} | {rate:.0f} | {spread} | {cpu:.2f} | {load} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photos", type=Path, nargs="?", default=PHOTOS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each part")
    parser.add_argument("--output", type=Path, help="a .json, for the rounds")
    options = parser.parse_args()
    photos = photos_of(options.photos)
    with asyncio.Runner(loop_factory=punctual_loop) as runner:
        rounds = runner.run(measure_rounds(photos, options.rounds, options.seconds))
    print(table(rounds))
    if options.output:
        facts = describe_run("make bench-limit")
        record = {**facts, "photos": len(photos), "rounds": rounds}
        options.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
