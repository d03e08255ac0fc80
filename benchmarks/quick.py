"""Whether the server got slower: its photos/s by those of the engine alone, against a record.

    python -m benchmarks.quick ../shared/photos

The engine, REST and gRPC are asked in turns in the same run, of about a minute: the machine's speed
is in both parts of a ratio. A loss is clear, and the exit code 1, where the median of the ratios is
below 0.85 of the recorded one, and every single ratio below it. `--write` makes the record anew.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from alexnet.bundle import Bundle
from alexnet.preprocess import preprocess
from alexnet_client.load.arrivals import punctual_loop
from alexnet_client.load.point import Load
from benchmarks.peers.__main__ import PHOTOS, photos_of
from benchmarks.server import STARTER, describe_run, run_server
from benchmarks.serving import measure
from server.engines.base import Engine
from server.engines.on_cpu import open_on_cpu

RECORD = Path("docs/records/quick.json")
BATCH, CALLERS = 16, 16
CLEAR = 0.85

Ratios = Mapping[str, Sequence[float]]
"""Of each protocol one ratio a round."""


def engine_of(bundle: Bundle, cores: int) -> Engine:
    """ONNX Runtime in int8, as the server opens it."""
    artifact = next(a for a in bundle.manifest.artifacts if a.precision == "int8")
    onnx, names = bundle.files[artifact.file], ("onnxruntime-cpu",)
    return open_on_cpu(names, onnx, bundle, "int8", artifact.tolerance, cores, BATCH)


def engine_alone(engine: Engine, crops: Sequence[NDArray[np.uint8]], seconds: float) -> float:
    """Crops a second, in batches of BATCH."""
    pixels = [crops[i % len(crops)] for i in range(BATCH)]
    engine.begin(pixels)()  # warm
    batches, start = 0, time.perf_counter()
    while (took := time.perf_counter() - start) < seconds:
        engine.begin(pixels)()
        batches += 1
    return BATCH * batches / took


async def measure_ratios(photos: Sequence[bytes], rounds: int, seconds: float) -> Ratios:
    bundle = Bundle.open(STARTER)
    crops = [preprocess(photo, bundle.manifest.preprocess).crop for photo in photos[:BATCH]]
    ratios: dict[str, list[float]] = {"rest": [], "grpc": []}
    async with run_server("--log-level", "warning") as server:
        cores = len(os.sched_getaffinity(0))  # as the server takes by default
        engine = engine_of(bundle, cores)
        for seed in range(rounds):
            alone = await asyncio.to_thread(engine_alone, engine, crops, seconds / 2)
            print(f"  engine alone: {alone:.0f}/s", flush=True)
            for protocol, found in ratios.items():
                load = Load(concurrency=CALLERS, seconds=seconds, timeout_s=5.0, seed=seed)
                point = await measure(server, photos, load, protocol)
                found.append(round(point.goodput_per_s / alone, 3))
    return ratios


def losses(now: Ratios, recorded: Ratios) -> list[str]:
    """What got clearly slower, in words."""
    found = []
    for name, ratios in now.items():
        before = median(recorded[name])
        if median(ratios) < CLEAR * before and max(ratios) < before:
            found.append(
                f"{name}: {median(ratios):.2f} of the engine alone ({min(ratios):.2f} to "
                f"{max(ratios):.2f}), recorded {before:.2f}: a clear loss"
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photos", type=Path, nargs="?", default=PHOTOS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load")
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--write", action="store_true", help="make the record anew")
    options = parser.parse_args()
    photos = photos_of(options.photos)
    with asyncio.Runner(loop_factory=punctual_loop) as runner:
        now = runner.run(measure_ratios(photos, options.rounds, options.seconds))
    for name, ratios in now.items():
        print(f"{name}: {median(ratios):.2f} of the engine alone {sorted(ratios)}")
    if options.write:
        facts = describe_run("make bench-quick ARGS=--write")
        options.record.write_text(json.dumps({**facts, "photos": len(photos), **now}) + "\n")
    elif lost := losses(now, json.loads(options.record.read_text())):
        sys.exit("\n".join(lost))


if __name__ == "__main__":
    main()
