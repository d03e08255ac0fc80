"""The results of a sweep as a table and as JSON."""

import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from alexnet_client import __version__
from alexnet_client.load.point import Point
from alexnet_client.load.sender import CANCELLED, LATE, NOT_SENT, OK, REFUSED

FORMAT = 1
_COLUMNS = {
    "load": 6, "goodput": 7, "p50": 5, "p95": 5, "p99": 5, "max": 5,
    "late": 5, "refused": 7, "cancelled": 9, "failed": 6,
    "decode": 6, "infer": 5, "other": 5, "batch": 5, "lag": 5,
}  # fmt: skip
HEADER = " ".join(f"{name:>{width}}" for name, width in _COLUMNS.items())
LEGEND = """\
load, goodput    requests that fell due (closed loop: clients), answers in time; per second
p50 ... max      latency of the answers in ms, from the moment the request was due
late ... failed  share of the requests; refused: rejected by the server
decode, infer    medians as the server reports them, in ms; other: the rest of the latency
batch, lag       photos in a run of the engine; how late the generator was, in ms at p99"""


def format_row(point: Point) -> str:
    shares = (point.share(LATE), point.share(*REFUSED), point.share(CANCELLED))
    stages = (point.server_ms["decode"], point.server_ms["infer"], point.overhead_ms)
    cells = [
        str(point.load.concurrency or _figure(point.offered_per_s)),
        _figure(point.goodput_per_s),
        *(_figure(point.latency_ms.get(q)) for q in ("p50", "p95", "p99", "max")),
        *(_share(share) for share in (*shares, point.share(*_failed(point)))),
        *(_figure(stage.get("p50")) for stage in stages),
        _figure(point.batch_size),
        _figure(point.lag_ms.get("p99")),
    ]
    line = (f"{cell:>{width}}" for cell, width in zip(cells, _COLUMNS.values(), strict=True))
    return " ".join(line) + (" !" if point.problem else "")


def format_notes(points: Sequence[Point]) -> Iterator[str]:
    """The notes below the table."""
    for point in points:
        if point.problem:
            yield f"! {point.load}: {point.problem}"
        if point.refusal_ms:
            p50, p99 = point.refusal_ms["p50"], point.refusal_ms["p99"]
            yield f"refused at {point.load}: after {p50:.1f} ms at p50, {p99:.1f} ms at p99"
        if failed := _failed(point):
            counts = (f"{point.outcomes[name]:,} {name}" for name in failed)
            yield f"failed at {point.load}: {', '.join(counts)}"
    versions = sorted({version for point in points for version in point.versions})
    yield f"answered by version {', '.join(versions) or '-'}"


def to_document(settings: dict[str, Any], points: Sequence[Point]) -> dict[str, Any]:
    """The sweep with its settings and versions, without paths and host names."""
    given = {name: value for name, value in settings.items() if value is not None}
    return {
        "format": FORMAT,
        "command": " ".join(["alexnet-load", *(_flag(*setting) for setting in given.items())]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            "alexnet-client": __version__,
            "grpcio": version("grpcio"),
        },
        "generator": {"cpu": _cpu(), "cores": len(os.sched_getaffinity(0))},
        "settings": settings,
        "points": [{"level": str(point.load), **asdict(point)} for point in points],
    }


def _failed(point: Point) -> list[str]:
    return sorted(point.outcomes.keys() - {OK, LATE, CANCELLED, *REFUSED, NOT_SENT})


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}" if abs(value) < 1000 else f"{value:.0f}"


def _share(share: float) -> str:
    return "-" if not share else f"{share:.1%}" if share < 0.9995 else "100%"


def _flag(name: str, value: object) -> str:
    values = value if isinstance(value, list) else [value]
    return f"--{name.replace('_', '-')} {','.join(map(str, values))}"


def _cpu() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
