"""`alexnet-load`: the latency of a running server at each rate of requests, open loop."""

import argparse
import asyncio
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from tqdm import tqdm

from alexnet_client import __version__
from alexnet_client.access import Access
from alexnet_client.classify import access, add_access_options, run_and_exit
from alexnet_client.load.arrivals import punctual_loop
from alexnet_client.load.baseline import Baseline, is_worse
from alexnet_client.load.grpc import grpc_sender
from alexnet_client.load.knee import measure_around_knee
from alexnet_client.load.point import Load, Point
from alexnet_client.load.report import HEADER, LEGEND, format_notes, format_row, to_document
from alexnet_client.load.run import NoAnswerError, run_point
from alexnet_client.photos import Photo, photos_in
from alexnet_client.terminal import say

MAX_PHOTOS = 500  # held in memory; a random sample if there are more
ADDRESSES = {"grpc": "127.0.0.1:8001", "rest": "127.0.0.1:8000"}

EXPLANATION = f"""\
Open loop: requests arrive at random (Poisson) at each of the --rates, whether or not the server has
answered the earlier ones, and latency counts from the moment a request was due.

{LEGEND}
A row that ends in ! does not measure the server: the generator could not keep up.

examples:
  alexnet-load photos/                       find where goodput stops growing, measure around it
  alexnet-load photos/ --rates 50,100,200 --timeout-ms 250 --output now.json --plot now.svg
  alexnet-load photos/ --rates 100 --compare before.json
  alexnet-load photos/ --concurrency 1       closed loop: the latency of a lone client

exit code: 0 measured, 1 no server, a row with ! or worse than the baseline, 2 wrong usage
"""


def main() -> None:
    run_and_exit(run)


def run() -> int:
    parser = _parser()
    options = parser.parse_args()
    try:
        baseline = Baseline.read(options.compare) if options.compare else None
        options.server = options.server or ADDRESSES[options.protocol]
        sweep = Sweep(options, access(parser, options, options.server))
        if options.plot:
            from alexnet_client.load.plot import plot
    except ModuleNotFoundError as error:
        parser.error(
            f"{error.name} is not installed: pip install {error.name} "
            "(the extra `load` of alexnet-client)"
        )
    except (ValueError, OSError) as error:
        parser.error(str(error))
    say(f"{sweep.title}\n\n{HEADER}", sys.stdout)
    try:
        with asyncio.Runner(loop_factory=punctual_loop) as runner:
            runner.run(sweep.run())
    except NoAnswerError as error:
        say(
            f"{parser.prog}: no photo was classified over {options.protocol} at {sweep.address}: "
            f"{error}. `make serve` starts a server, --server names another",
            sys.stderr,
        )
        return 1
    say("\n".join(["", *format_notes(sweep.points)]), sys.stdout)
    if options.plot:
        plot(sweep.points, sweep.title, options.plot)
    wrong = any(point.problem for point in sweep.points)
    return 1 if (baseline and _is_worse(baseline, sweep.points, options)) or wrong else 0


class Sweep:
    """Measures the requested points one after the other."""

    def __init__(self, options: argparse.Namespace, access: Access) -> None:
        """Raises ValueError, OSError; ModuleNotFoundError where a protocol's package is missing."""
        self.points: list[Point] = []
        self._options = options
        self._sender = grpc_sender
        if options.protocol == "rest":
            from alexnet_client.load.rest import rest_sender

            self._sender = rest_sender
        self.address: str = options.server
        self._photos = _read(options.photos, Random(options.seed))
        self._access = access
        self.title = (
            f"{'closed' if options.concurrency else 'open'} loop, {options.protocol}, "
            f"timeout {options.timeout_ms:g} ms, {options.seconds:g} s each, "
            f"photos: {len(self._photos)}"
        )

    async def run(self) -> None:
        """Raises NoAnswerError."""
        for clients in self._options.concurrency or ():
            await self._measure(concurrency=clients)
        for rate in self._options.rates or ():
            await self._measure(rate)
        if not self._options.concurrency and not self._options.rates:
            await measure_around_knee(self._measure)

    async def _measure(self, rate: float | None = None, concurrency: int | None = None) -> float:
        o = self._options
        load = Load(rate, concurrency, o.seconds, o.timeout_ms / 1000, o.cancel, o.seed)
        connections = concurrency or o.connections
        where = self.address, self._photos, o.priority, connections, self._access
        async with self._sender(*where) as sender:
            bar = asyncio.create_task(_progress(load))
            try:
                point = await run_point(sender, load)
            finally:
                bar.cancel()
        self.points.append(point)
        say(format_row(point), sys.stdout)
        if o.output:  # after each point, so that an interrupted sweep keeps them
            o.output.write_text(
                json.dumps(to_document(_settings(o), self.points), indent=1) + "\n",
                encoding="utf-8",
            )
        return point.goodput_per_s


async def _progress(load: Load) -> None:
    form = "{desc} |{bar:30}| {n:.0f} of {total:.0f} s"
    quiet = not sys.stderr.isatty()
    with tqdm(
        desc=str(load), total=load.seconds, bar_format=form, leave=False, disable=quiet
    ) as bar:
        while True:
            await asyncio.sleep(0.25)
            bar.update(min(0.25, load.seconds - bar.n))


def _read(names: Sequence[str], random: Random) -> list[bytes]:
    photos: list[Photo] = []
    for path in map(Path, names):
        single = path.is_file() and path.suffix.lower() != ".zip"
        photos += [Photo(path.name, path.read_bytes)] if single else photos_in(path)
    chosen = random.sample(photos, MAX_PHOTOS) if len(photos) > MAX_PHOTOS else photos
    return [photo.read() for photo in chosen]


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    local = {"photos", "server", "output", "plot", "compare", "tolerance"}
    local |= {"ca", "certificate", "key"}
    return {name: value for name, value in vars(options).items() if name not in local}


def _is_worse(baseline: Baseline, points: Sequence[Point], options: argparse.Namespace) -> bool:
    """Prints the changes. Also True if there was nothing to compare."""
    say(f"\nagainst {baseline.title}:", sys.stdout)
    for difference in baseline.changed_settings(_settings(options)):
        say(f"  different setting: {difference}", sys.stdout)
    changes = baseline.changes(points)
    for level, change in changes.items():
        cells = (f"{name} {'-' if r is None else f'{r - 1:+.1%}'}" for name, r in change.items())
        mark = "worse" if is_worse(change, options.tolerance) else ""
        say("".join(f"{cell:<18}" for cell in (f"  {level}", *cells, mark)).rstrip(), sys.stdout)
    if not changes:
        say("  no point in common", sys.stdout)
    return not changes or any(is_worse(change, options.tolerance) for change in changes.values())


def _number(low: float, high: float, kind: type = float) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            number = kind(text)
        except ValueError:
            number = math.nan
        if low <= number <= high:
            return number
        whole = "whole " if kind is int else ""
        raise argparse.ArgumentTypeError(f"{text!r} is no {whole}number from {low:g} to {high:g}")

    return parse


def _list(item: Callable[[str], Any]) -> Callable[[str], list[Any] | None]:
    return lambda text: None if text == "auto" else [item(part) for part in text.split(",")]


def _file(*suffixes: str) -> Callable[[str], Path]:
    def parse(text: str) -> Path:
        path = Path(text)
        if path.suffix not in suffixes or path.is_dir() or not path.parent.is_dir():
            wanted = " or ".join(suffixes)
            raise argparse.ArgumentTypeError(
                f"{text!r} is no {wanted} file in a folder that exists"
            )
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise argparse.ArgumentTypeError(f"{text!r} may not be written")
        return path

    return parse


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="alexnet-load",
        description="Measure how soon a running AlexNet server answers under load.",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    add = parser.add_argument
    add("photos", nargs="+", metavar="PHOTO", help="file, folder or .zip")
    add("--protocol", choices=sorted(ADDRESSES), default="grpc", help="default: %(default)s")
    add("--server", "--address", metavar="HOST:PORT", help="default: 127.0.0.1:8001, rest: :8000")
    add_access_options(parser)
    level = parser.add_mutually_exclusive_group().add_argument
    level("--rates", type=_list(_number(0.1, 1e5)), metavar="R,R", help="1/s; default: auto")
    level("--concurrency", type=_list(_number(1, 1000, int)), metavar="N,N",
        help="closed loop instead: N clients, each of which waits for its answer")  # fmt: skip
    add("--seconds", type=_number(0.1, 1e5), default=10.0, metavar="S", help="each; default: 10")
    add("--timeout-ms", type=_number(1, 1e6), default=500.0, metavar="MS", help="default: 500")
    add("--cancel", type=_number(0, 1), default=0.0, metavar="SHARE",
        help="of requests, given up after a random part of the timeout; default: 0")  # fmt: skip
    add("--priority", type=_number(1, 1000, int), metavar="P", help="1 is the highest")
    add("--connections", type=_number(1, 1000, int), default=4, metavar="N",
        help="in open loop; REST opens more when all are busy; default: 4")  # fmt: skip
    add("--seed", type=int, default=0, help="of arrivals and cancellations; default: 0")
    add("--output", type=_file(".json"), metavar="FILE.json")
    add("--plot", type=_file(".svg", ".png", ".pdf"), metavar="FILE.svg", help="or .png, .pdf")
    add("--compare", type=Path, metavar="FILE.json", help="an --output of before")
    add("--tolerance", type=_number(0, 10), default=0.2, metavar="SHARE",
        help="how much worse goodput, p50 and p99 may be; default: 0.2")  # fmt: skip
    return parser


if __name__ == "__main__":
    main()
