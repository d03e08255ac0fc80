"""The record of benchmarks/growth.py as a page and a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl

mpl.use("agg")  # files, never windows
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

Series = Mapping[str, Sequence[Mapping[str, float]]]
"""Value -> what each round measured."""

PAGE = """\
# How cost grows

`{command}`

{date}, commit {commit}. {cpu}, Python {python}, ONNX Runtime {onnxruntime}, grpcio {grpcio};
the int8 starter. {photos} JPEGs; server and load on the same cores. Medians of {rounds} rounds, in
which the values of a series take turns; the machine's speed wanders, so compare within a column.

![How cost grows]({picture})

"""


@dataclass(frozen=True)
class Table:
    title: str
    """How cost grows with it."""
    first: str
    """Its first column."""
    columns: Mapping[str, str]
    text: str = ""


_CALLERS = {
    "per_s": "photos/s", "p50_ms": "p50, ms", "p99_ms": "p99, ms", "answered": "answered",
    "memory_mb": "the process, MB",
}  # fmt: skip
_IDLE = {"memory_mb": "the process, MB"}

TABLES = {
    "size": Table(
        "a photo's size", "megapixels",
        {"file_mb": "file, MB", "decode_ms": "decoding, ms", "lone_ms": "a lone caller's p50, ms",
         "per_s": "photos/s to 8 callers"},
        "Mosaics of the photos, as detailed as they are, over gRPC.",
    ),
    "callers, rest": Table(
        "callers over REST", "callers", _CALLERS,
        "Each waits for its answer, for 5 s at most, and asks again at once, whatever Retry-After "
        "says. What is not answered was refused before it was decoded: it would have come too "
        "late. Memory that the most callers took is kept while fewer call.",
    ),
    "callers, grpc": Table("callers over gRPC", "callers", _CALLERS),
    "idle, rest": Table("idle connections, HTTP", "connections", _IDLE),
    "idle, grpc": Table("idle connections, gRPC", "connections", _IDLE),
    "batch": Table(
        "a batch", "photos in a batch",
        {"ms": "of the batch, ms", "ms_a_photo": "a photo, ms", "cpu_ms": "CPU a photo, ms"},
        "The engine alone, on all cores.",
    ),
    "classes": Table(
        "classes in an answer", "top_k",
        {"per_s": "photos/s", "answer_kb": "an answer, kB"},
        "REST, 16 callers.",
    ),
    "streams": Table(
        "streams", "streams", {"per_s": "photos/s"},
        "On one gRPC connection, 8 photos in flight on each.",
    ),
}  # fmt: skip


def write_page(found: Mapping[str, Any], output: Path) -> None:
    """`output`.md and `output`.png."""
    picture = output.with_suffix(".png")
    parts = [PAGE.format(**found, picture=picture.name)]
    for name, table in TABLES.items():
        heading = f"## With {table.title}\n\n"
        parts.append(f"{heading}{table.text}\n\n" if table.text else heading)
        names = table.first, *table.columns.values()
        parts.append(f"| {' | '.join(names)} |\n{'|---' * len(names)}|\n")
        for value, rounds in found[name].items():
            cells = (_told(median(row[key] for row in rounds)) for key in table.columns)
            parts.append(f"| {' | '.join((value, *cells))} |\n")
        parts.append("\n")
    output.with_suffix(".md").write_text("".join(parts).rstrip() + "\n")
    _draw(found, picture)


def _told(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _draw(found: Mapping[str, Any], path: Path) -> None:
    style: Any = {
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
        "grid.alpha": 0.25, "font.size": 9, "legend.frameon": False,
    }  # fmt: skip
    with plt.rc_context(style):
        figure, grid = plt.subplots(2, 3, figsize=(12, 6.4), layout="constrained", dpi=110)
        size, callers, latency, memory, batch, streams = grid.flat
        _line(size, found["size"], "lone_ms", "a lone caller's p50", log=True)
        _line(size, found["size"], "decode_ms", "of it decoding", log=True)
        size.set(title="ms by the size of a photo", xlabel="megapixels")
        for protocol, name in (("rest", "REST"), ("grpc", "gRPC")):
            series = found[f"callers, {protocol}"]
            _line(callers, series, "per_s", name)
            _line(latency, series, "p50_ms", f"{name}, p50", log=True)
            _line(latency, series, "p99_ms", f"{name}, p99", log=True)
            _line(memory, series, "memory_mb", f"{name}, callers")
            _line(memory, found[f"idle, {protocol}"], "memory_mb", f"{name}, idle")
        callers.set(title="photos/s by callers", xlabel="callers", ylim=0)
        latency.set(title="ms of answers by callers", xlabel="callers")
        memory.set(title="MB of the process by connections", xlabel="connections", ylim=0)
        memory.set_xscale("linear")
        _line(batch, found["batch"], "ms_a_photo", "the engine alone")
        batch.set(title="ms a photo by the size of a batch", xlabel="photos in a batch", ylim=0)
        _line(streams, found["streams"], "per_s", "streams of 8 photos in flight")
        _line(streams, found["classes"], "per_s", "classes in an answer (REST)")
        streams.set(title="photos/s", xlabel="streams, or classes", ylim=0)
        for axes in grid.flat:
            axes.legend()
        figure.savefig(path)
        plt.close(figure)


def _line(axes: Axes, series: Series, key: str, label: str, log: bool = False) -> None:
    values = [float(value) for value in series]
    rounds = [[row[key] for row in rows] for rows in series.values()]
    (line,) = axes.plot(values, [median(each) for each in rounds], "o-", ms=4, label=label)
    axes.fill_between(
        values, [min(each) for each in rounds], [max(each) for each in rounds],
        color=line.get_color(), alpha=0.15, lw=0,
    )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
