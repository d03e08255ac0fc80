"""Whether honest photos are answered while strangers attack, and what memory they cost.

    python -m benchmarks.hostile FOLDER [--seconds 10] [--only PART ...] [--output RECORD]

FOLDER holds hostile files. For each of them, and for each attack of benchmarks/attacks.py, a
server starts; four connections of another process attack it, while a photo is sent every 0.2 s. A
line says how long the honest photos took, how many failed, by how much the server grew, and what
share of a CPU server and attackers took. Three rows that attack nothing are the scale. RECORD.jsonl
gets a line more for each run, and RECORD.md is the page of all that are there.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import aiohttp

from alexnet.samples import photo
from alexnet_client.load.point import percentiles
from benchmarks.attacks import Attack, Target, attacks
from benchmarks.hostile_page import write_page
from benchmarks.server import STARTER, Server, describe_run, run_server

CONNECTIONS, EVERY_S, TIMEOUT_S, START_S = 4, 0.2, 10.0, 60.0
NOTHING = "nothing"


def beside(target: Target, folder: Path) -> dict[str, Attack]:
    """What runs beside the honest photos, by its name."""

    async def nothing() -> None:
        await asyncio.Event().wait()

    async def spin() -> None:
        while True:  # on one CPU, as attackers do
            await asyncio.sleep(0)

    async def photos() -> None:
        data = photo("JPEG", 0.5)
        async with aiohttp.ClientSession(f"http://{target.http}") as session:
            while True:
                await ask(session, data)

    scale = {NOTHING: nothing, "a busy process that asks nothing": spin, "honest photos": photos}
    return scale | attacks(target, folder)


def attack(name: str, target: Target, folder: Path, begun: Event) -> None:
    """The other process, until it is terminated."""

    async def run() -> None:
        one = beside(target, folder)[name]
        begun.set()  # importing and making what is sent took seconds
        await asyncio.gather(*(one() for _ in range(CONNECTIONS)))

    asyncio.run(run())


async def ask(session: aiohttp.ClientSession, data: bytes) -> tuple[float, bool]:
    """Seconds, and whether it was answered."""
    start = time.perf_counter()
    try:
        async with session.post("/v1/classify", data=data) as response:
            await response.read()
            answered = response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        answered = False
    return time.perf_counter() - start, answered


async def honest(server: Server, seconds: float) -> list[tuple[float, bool]]:
    """A photo is sent when its time has come, whether or not the one before is answered."""
    data = photo("JPEG", 0.5)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(server.http, timeout=timeout) as session:
        asked = []
        for _ in range(max(1, round(seconds / EVERY_S))):
            asked.append(asyncio.create_task(ask(session, data)))
            await asyncio.sleep(EVERY_S)
        return await asyncio.gather(*asked)


async def resident_mb(server: Server) -> float:
    return await server.metric("process_resident_memory_bytes") / 1e6


def cpu_s(process: int) -> float:
    """Of a process and all its threads, so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(name: str, folder: Path, seconds: float, model: str) -> dict[str, Any]:
    async with run_server("--model", model) as server:
        await honest(server, 1.0)
        idle_mb = most_mb = await resident_mb(server)
        target = Target(server.http.removeprefix("http://"), server.grpc)
        spawn = multiprocessing.get_context("spawn")
        begun = spawn.Event()
        attacker = spawn.Process(target=attack, args=(name, target, folder, begun), daemon=True)
        attacker.start()
        try:
            await asyncio.to_thread(begun.wait, START_S)
            assert attacker.pid is not None
            start, attackers_s = time.perf_counter(), cpu_s(attacker.pid)
            server_s = await server.metric("process_cpu_seconds_total")
            asking = asyncio.create_task(honest(server, seconds))
            while not asking.done():
                most_mb = max(most_mb, await resident_mb(server))
                await asyncio.wait([asking], timeout=0.5)
            attackers_s = cpu_s(attacker.pid) - attackers_s
            server_s = await server.metric("process_cpu_seconds_total") - server_s
            lasted = time.perf_counter() - start
        finally:
            attacker.terminate()
            attacker.join()
        answers = await asking
    took = percentiles(each_s for each_s, answered in answers if answered)
    return {
        "attack": name, "photos": len(answers),
        "failed": sum(not answered for _, answered in answers), "ms": took,
        "idle_mb": round(idle_mb), "grown_mb": round(most_mb - idle_mb),
        "server_cpus": round(server_s / lasted, 2),
        "attackers_cpus": round(attackers_s / lasted, 2),
    }  # fmt: skip


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="hostile files")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each attack; 10")
    parser.add_argument("--only", nargs="*", default=[""], help="those with this in their names")
    parser.add_argument("--model", default=str(STARTER))
    parser.add_argument("--output", type=Path, help="the record, without a suffix")
    options = parser.parse_args()
    folder, seconds, output = options.folder, options.seconds, options.output
    run = describe_run(f"python -m benchmarks.hostile FOLDER --seconds {seconds:g}")
    for name in beside(Target("", ""), folder):
        if any(part in name for part in options.only):
            row = await measure(name, folder, seconds, options.model)
            print(json.dumps(row), flush=True)
            if output:
                with output.with_suffix(".jsonl").open("a") as record:
                    record.write(json.dumps(run | row) + "\n")
                write_page(output)


if __name__ == "__main__":
    asyncio.run(main())
