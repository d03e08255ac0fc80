"""The plot of a sweep: latency and the outcomes of the requests against the load."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from alexnet_client.load.point import Point
from alexnet_client.load.sender import CANCELLED, LATE, OK, REFUSED

mpl.use("agg")  # files, never windows
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

_STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "figure.dpi": 120,
    "font.size": 9,
}
_OUTCOMES = (("refused", REFUSED), ("late", (LATE,)), ("cancelled", (CANCELLED,)))


def plot(points: Sequence[Point], title: str, path: Path) -> None:
    points = sorted(points, key=_level)
    with plt.rc_context(_STYLE):
        figure, both = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
        _latency(both[0], points)
        _outcomes(both[1], points)
        for axes in both:
            open_loop = points[0].load.rate is not None
            axes.set_xlabel("offered, requests/s" if open_loop else "clients, closed loop")
            axes.set_xlim(left=0)
            axes.legend(frameon=False)
        figure.suptitle(title)
        figure.savefig(path)
        plt.close(figure)


def _latency(axes: Axes, points: Sequence[Point]) -> None:
    answered = [point for point in points if point.latency_ms]
    for quantile, colour in (("p99", "tab:red"), ("p95", "tab:orange"), ("p50", "tab:blue")):
        values = [point.latency_ms[quantile] for point in answered]
        axes.plot([_level(p) for p in answered], values, "o-", ms=4, color=colour, label=quantile)
    wrong = [point for point in answered if point.problem]
    if wrong:
        values = [point.latency_ms["p99"] for point in wrong]
        axes.plot([_level(p) for p in wrong], values, "kx", ms=9, label="generator fell behind")
    axes.axhline(1000 * points[0].load.timeout_s, color="grey", ls=":", label="timeout")
    axes.set(title="latency of answers, ms", yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")


def _outcomes(axes: Axes, points: Sequence[Point]) -> None:
    levels = [_level(point) for point in points]
    if points[0].load.rate is not None:
        axes.plot(levels, levels, color="grey", ls=":", label="offered")
    axes.plot(levels, [p.goodput_per_s for p in points], "o-", ms=4, label="answered in time")
    named = [OK, *(outcome for _, outcomes in _OUTCOMES for outcome in outcomes)]
    failed = {outcome for point in points for outcome in point.outcomes} - {*named}
    for label, outcomes in (*_OUTCOMES, ("failed", tuple(failed))):
        rates = [p.offered_per_s * p.share(*outcomes) for p in points]
        if any(rates):
            axes.plot(levels, rates, "o-", ms=4, label=label)
    axes.set(title="what became of the requests, 1/s")
    axes.set_ylim(bottom=0)


def _level(point: Point) -> float:
    return point.offered_per_s if point.load.rate is not None else point.load.concurrency or 0
