"""Two commits side by side: the server of another checkout against the one here, in turns.

    git worktree add /tmp/before COMMIT
    python -m benchmarks.against /tmp/before photos/ --output docs/records/against_MACHINE_DATE

Both servers run all the time, and one is asked at a time; every turn asks both, in changing order,
and gives a ratio. The machine's speed wanders: only the ratios mean something. Writes OUTPUT.json.
"""

import argparse
import asyncio
import json
import os
import random
import shlex
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

from alexnet.bundle import Bundle
from alexnet_client.load.arrivals import punctual_loop
from alexnet_client.load.point import Load, Point
from alexnet_client.photos import photos_in
from benchmarks.bare import measure_alone
from benchmarks.server import STARTER, Server, continued, describe_run, run_server
from benchmarks.serving import FULL_LOAD, MAX_STEAL, TIMEOUT_S, measure, swap_versions
from benchmarks.steal import Steal

Figures = dict[str, Any]
Experiment = Callable[[Server, int], Awaitable[Figures]]
"""Of one server and the number of the turn; a `problem` among them is why they do not count."""


@asynccontextmanager
async def both(before: Path, *flags: str, apart: bool = False) -> AsyncIterator[dict[str, Server]]:
    """`apart` gives the servers one core and the generator, this process, another."""
    cores = os.sched_getaffinity(0)
    if apart:
        os.sched_setaffinity(0, {max(cores)})
    server_cores = [min(cores)] if apart else ()
    quiet = (*flags, "--log-level", "warning")
    try:
        async with (
            run_server(*quiet, cores=server_cores, folder=before) as old,
            run_server(*quiet, cores=server_cores) as new,
        ):
            yield {"before": old, "after": new}
    finally:
        os.sched_setaffinity(0, cores)


async def in_turns(servers: dict[str, Server], turns: int, ask: Experiment) -> dict[str, Any]:
    """The figures of both in every turn, and the medians of their ratios, after by before."""
    rows: list[dict[str, Any]] = []
    for turn in range(turns):
        row: dict[str, Any] = {}
        with Steal() as steal:
            for name in random.Random(turn).sample(sorted(servers), 2):
                row[name] = await ask(servers[name], turn)
        problem = "; ".join(filter(None, [each.pop("problem", "") for each in row.values()]))
        rows.append({**row, "stolen": round(steal.share, 4), "problem": problem})
    sound = [row for row in rows if not row["problem"]]
    calm = [row for row in sound if row["stolen"] < MAX_STEAL] or sound
    ratios = {
        name: [row["after"][name] / row["before"][name] for row in calm if row["before"][name]]
        for name in rows[0]["after"]
    }
    summary = {
        name: {"median": round(median(found), 3), "all": [round(r, 3) for r in sorted(found)]}
        for name, found in ratios.items()
        if found
    }
    for name, each in summary.items():
        print(f"  {name}: {each['median']} (n = {len(each['all'])})", flush=True)
    return {"after_by_before": summary, "counted": len(calm), "turns": rows}


async def throughput(before: Path, photos: Sequence[bytes], turns: int, s: float) -> dict[str, Any]:
    async with both(before) as servers:

        async def ask(server: Server, turn: int) -> Figures:
            load = Load(concurrency=16, seconds=s, timeout_s=5.0, seed=turn)
            rest = await measure(server, photos, load, "rest")
            grpc = await measure(server, photos, load, "grpc")
            return {"rest_per_s": rest.goodput_per_s, "grpc_per_s": grpc.goodput_per_s}

        return await in_turns(servers, turns, ask)


async def lone(before: Path, photos: Sequence[bytes], turns: int, s: float) -> dict[str, Any]:
    async with both(before) as servers:

        async def ask(server: Server, turn: int) -> Figures:
            address = server.http.removeprefix("http://")
            rest = await asyncio.to_thread(measure_alone, address, photos, s)
            point = await measure(server, photos, Load(concurrency=1, seconds=s, timeout_s=5.0))
            return {
                "rest_p50_ms": rest["latency_ms"]["p50"],
                "grpc_p50_ms": point.latency_ms["p50"],
            }

        return await in_turns(servers, turns, ask)


async def flood(
    before: Path, photos: Sequence[bytes], turns: int, s: float, protocol: str, cancel: float
) -> dict[str, Any]:
    """Three times the peak of the server before, open loop."""
    async with both(before, apart=True) as servers:
        full = Load(concurrency=FULL_LOAD, seconds=s, timeout_s=5.0)
        peak = (await measure(servers["before"], photos, full, protocol)).goodput_per_s

        async def ask(server: Server, turn: int) -> Figures:
            load = Load(rate=3 * peak, seconds=s, timeout_s=TIMEOUT_S, cancel=cancel, seed=turn)
            return _judged(await measure(server, photos, load, protocol))

        return {"peak_per_s": peak, **await in_turns(servers, turns, ask)}


def _judged(point: Point) -> Figures:
    answered = point.outcomes.get("ok", 0)
    late = point.outcomes.get("late", 0) + point.outcomes.get("expired", 0)
    in_time = answered / max(answered + late, 1)
    return {
        "goodput_per_s": point.goodput_per_s, "accepted_in_time": in_time,
        "problem": point.problem,
    }  # fmt: skip


async def exchange(before: Path, photos: Sequence[bytes], turns: int, s: float) -> dict[str, Any]:
    """A steady load while versions are exchanged, one a second."""
    with tempfile.TemporaryDirectory() as folder:
        Bundle.open(STARTER).write(Path(folder) / "bundle")
        places = {name: Path(folder) / name for name in ("before", "after")}
        for place in places.values():
            place.mkdir()
            (place / "1").symlink_to(Path(folder) / "bundle")
        flags = ("--repository-control", "local", "--log-level", "warning")
        async with (
            run_server("--model", str(places["before"]), *flags, folder=before) as old,
            run_server("--model", str(places["after"]), *flags) as new,
        ):
            servers = {"before": old, "after": new}
            most = await measure(old, photos, Load(concurrency=16, seconds=s))
            rate = round(most.goodput_per_s / 2)

            async def ask(server: Server, turn: int) -> Figures:
                place = places["before" if server is old else "after"]
                load = Load(rate=rate, seconds=s, timeout_s=5.0, seed=turn)
                async with swap_versions(server, place):
                    point = await measure(server, photos, load)
                failed = point.requests - point.outcomes["ok"]
                assert not failed, point.outcomes
                latency = {name: point.latency_ms[name[:3]] for name in ("p99_ms", "p50_ms")}
                return {**latency, "problem": point.problem}

            return {"rate": rate, **await in_turns(servers, turns, ask)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("before", type=Path, help="a checkout of the other commit")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="without a suffix")
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--only", help="one experiment, by name")
    options = parser.parse_args()
    photos = [photo.read() for photo in photos_in(options.photos)]
    args = options.before, photos, options.turns, options.seconds
    experiments: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
        "throughput": lambda: throughput(*args),
        "lone": lambda: lone(*args),
        "exchange": lambda: exchange(*args),
    }
    for protocol in ("rest", "grpc"):
        for leaving, cancel in (("stay", 0.0), ("a third leaves", 1 / 3)):
            experiments[f"flood, {protocol}, {leaving}"] = (
                lambda protocol=protocol, cancel=cancel: flood(*args, protocol, cancel)  # type: ignore[misc]
            )
    file = options.output.with_suffix(".json")
    facts = describe_run("python -m benchmarks.against " + shlex.join(sys.argv[1:]))
    found = continued(file, {**facts, "before": describe_run("", options.before)["commit"]})
    for name, experiment in experiments.items():
        if options.only in (None, name):
            print(name, flush=True)
            with asyncio.Runner(loop_factory=punctual_loop) as runner:
                found[name] = runner.run(experiment())  # type: ignore[arg-type]
            file.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
