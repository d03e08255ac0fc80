"""How cost grows: with photos, callers, idle connections, batches, classes in an answer, streams.

    make bench-growth ARGS="../shared/photos --output docs/records/growth_MACHINE_DATE"

Server and load share the machine. Every series is gone through round by round, in changing order,
so that each value stands beside its neighbours of the same minute. Writes OUTPUT.json after every
series, and OUTPUT.md and .png at the end.
"""

import argparse
import asyncio
import io
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import numpy as np
from PIL import Image

from alexnet.bundle import Bundle
from alexnet_client.classifier_pb2 import ClassifyResponse
from alexnet_client.load.arrivals import punctual_loop
from alexnet_client.load.point import Load
from alexnet_client.load.run import run_point
from alexnet_client.load.sender import LATE, OK, Reply, Sender
from benchmarks.attacks import SETTLED
from benchmarks.growth_page import write_page
from benchmarks.hostile import resident_mb
from benchmarks.limit import timed
from benchmarks.peers.__main__ import PHOTOS, photos_of
from benchmarks.quick import engine_of
from benchmarks.server import STARTER, Server, describe_run, run_server
from benchmarks.serving import measure, stream_rate

MEGAPIXELS = 0.1, 0.3, 1.0, 3.0, 6.0, 12.0, 24.0
CALLERS = 1, 4, 16, 64, 256, 1000
IDLE = 0, 100, 300, 1000
BATCHES = 1, 2, 4, 8, 16, 32, 64
CLASSES = 1, 5, 50, 200
STREAMS = 1, 2, 4, 8, 16
TIMEOUT_S = 5.0
WINDOW = 8  # photos in flight on a stream
QUEUES = 100  # callers, which wait for a second and more
QUIET = "--log-level", "warning", "--access-log", "off"
GET = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"

Row = dict[str, float]


def mosaic(photos: Sequence[bytes], megapixels: float) -> bytes:
    """A JPEG of so many pixels, 4 : 3, that is as detailed as the photos it is laid of."""
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    height, (w, h) = width * 3 // 4, (500, 375)
    sheet = Image.new("RGB", (width, height))
    places = [(x, y) for y in range(0, height, h) for x in range(0, width, w)]
    for i, place in enumerate(places):
        with Image.open(io.BytesIO(photos[i % len(photos)])) as photo:
            sheet.paste(photo.convert("RGB").resize((w, h)), place)
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=90)
    return file.getvalue()


async def sizes(server: Server, photos: Sequence[bytes], megapixels: float, seconds: float) -> Row:
    photo = [await asyncio.to_thread(mosaic, photos, megapixels)]
    lone = await measure(server, photo, Load(concurrency=1, seconds=seconds, timeout_s=TIMEOUT_S))
    many = await measure(server, photo, Load(concurrency=8, seconds=seconds, timeout_s=TIMEOUT_S))
    return {
        "file_mb": len(photo[0]) / 1e6, "per_s": many.goodput_per_s,
        "lone_ms": lone.latency_ms["p50"], "decode_ms": lone.server_ms["decode"]["p50"],
    }  # fmt: skip


async def callers(
    protocol: str, server: Server, photos: Sequence[bytes], count: float, seconds: float
) -> Row:
    # So long that the first answers, and those still under way at the end, are few.
    seconds = seconds if count < QUEUES else 3 * TIMEOUT_S
    load = Load(concurrency=int(count), seconds=seconds, timeout_s=TIMEOUT_S)
    point = await measure(server, photos, load, protocol)
    latency = point.latency_ms or {"p50": np.nan, "p99": np.nan}
    return {
        "per_s": point.goodput_per_s, "p50_ms": latency["p50"], "p99_ms": latency["p99"],
        "answered": point.share(OK), "memory_mb": await resident_mb(server),
    }  # fmt: skip


async def classes(server: Server, photos: Sequence[bytes], count: float, seconds: float) -> Row:
    """REST, 16 callers."""
    async with asking(server, photos, f"top_k={int(count)}") as (sender, sizes):
        point = await run_point(sender, Load(concurrency=16, seconds=seconds, timeout_s=TIMEOUT_S))
    return {"per_s": point.goodput_per_s, "answer_kb": float(np.mean(sizes)) / 1e3}


@asynccontextmanager
async def asking(
    server: Server, photos: Sequence[bytes], query: str
) -> AsyncIterator[tuple[Sender, list[int]]]:
    """And how long each answer was."""
    sizes: list[int] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(server.http, connector=connector) as session:

        async def send(photo: int, timeout_s: float) -> Reply:
            timeout = aiohttp.ClientTimeout(total=timeout_s)
            url = f"/v1/classify?{query}"
            try:
                async with session.post(url, data=photos[photo], timeout=timeout) as response:
                    sizes.append(len(await response.read()))
            except TimeoutError:
                return Reply(LATE)
            except aiohttp.ClientError:
                return Reply("unavailable")
            return Reply(OK if response.ok else str(response.status))

        yield Sender(len(photos), 16, send, lambda _: ClassifyResponse()), sizes


async def streams(server: Server, photos: Sequence[bytes], count: float, seconds: float) -> Row:
    rate = await stream_rate(server.grpc, photos, int(count), WINDOW, seconds)
    return {"per_s": rate}


async def idle(protocol: str, server: Server, count: float) -> Row:
    """Memory while so many connections wait, each after a first exchange."""
    address, first = {
        "grpc": (server.grpc, SETTLED), "rest": (server.http.removeprefix("http://"), GET)
    }[protocol]  # fmt: skip
    host, _, port = address.rpartition(":")
    async with AsyncExitStack() as stack:
        for _ in range(int(count)):
            reader, writer = await asyncio.open_connection(host, int(port))
            stack.callback(writer.close)
            writer.write(first)
            await reader.read(1)
        await asyncio.sleep(1)
        return {"memory_mb": await resident_mb(server)}


async def batches(count: float, seconds: float) -> Row:
    """The engine alone, on all cores."""
    bundle = Bundle.open(STARTER)
    engine = engine_of(bundle, len(os.sched_getaffinity(0)))
    crops = np.resize(bundle.golden.crops, (int(count), *bundle.golden.crops.shape[1:]))
    engine.begin(list(crops))()  # warm
    rate, cpu_s = await asyncio.to_thread(
        timed, lambda: engine.begin(list(crops))(), len(crops), seconds
    )
    engine.close()
    return {"ms": 1000 * len(crops) / rate, "ms_a_photo": 1000 / rate, "cpu_ms": 1000 * cpu_s}


async def sweep(
    name: str, values: Sequence[float], rounds: int, one: Callable[[float], Awaitable[Row]]
) -> dict[str, list[Row]]:
    """Value -> what each round measured."""
    found: dict[str, list[Row]] = {f"{value:g}": [] for value in values}
    for turn in range(rounds):
        for value in Random(turn).sample(values, len(values)) if rounds > 1 else values:
            row = await one(value)
            found[f"{value:g}"].append(row)
            told = ", ".join(f"{key} {number:.4g}" for key, number in row.items())
            print(f"{name} {value:g}: {told}", flush=True)
    return found


async def grow(
    photos: Sequence[bytes], rounds: int, seconds: float, keep: Callable[[str, Any], None]
) -> None:
    """`keep` is given the name of each series and what was measured, once it is over."""
    keep("batch", await sweep("batch", BATCHES, rounds, partial(batches, seconds=seconds / 2)))
    for protocol in ("rest", "grpc"):
        name = f"idle, {protocol}"
        async with run_server(*QUIET) as server:
            # Once, the fewest first: memory that was taken is not given back.
            keep(name, await sweep(name, IDLE, 1, partial(idle, protocol, server)))
        name = f"callers, {protocol}"
        async with run_server(*QUIET) as server:
            called = partial(callers, protocol, server, photos, seconds=seconds)
            keep(name, await sweep(name, CALLERS, rounds, called))
    async with run_server(*QUIET) as server:
        for name, values, measured in (
            ("classes", CLASSES, classes),
            ("streams", STREAMS, streams),
            ("size", MEGAPIXELS, sizes),
        ):
            one = partial(measured, server, photos)
            keep(name, await sweep(name, values, rounds, partial(one, seconds=seconds)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photos", type=Path, nargs="?", default=PHOTOS)
    parser.add_argument("--output", type=Path, default=Path("build/growth"),
                        help="without a suffix (default: build/growth)")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    options = parser.parse_args()
    photos = photos_of(options.photos)
    command = f"make bench-growth ARGS='--rounds {options.rounds} --seconds {options.seconds:g}'"
    record = {**describe_run(command), "photos": len(photos), "rounds": options.rounds}
    options.output.parent.mkdir(parents=True, exist_ok=True)

    def keep(name: str, rows: Any) -> None:
        record[name] = rows
        options.output.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")

    with asyncio.Runner(loop_factory=punctual_loop) as runner:
        runner.run(grow(photos, options.rounds, options.seconds, keep))
    write_page(record, options.output)
    print(f"{options.output}.md")


if __name__ == "__main__":
    main()
