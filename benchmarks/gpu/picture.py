"""The report as a roofline plot: the best candidate of each family, and the upper bounds."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.gpu.targets import Report, select

mpl.use("agg")  # files, never windows
from matplotlib import pyplot as plt

_STYLE: Any = {
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
    "figure.dpi": 130, "font.size": 9,
}  # fmt: skip
MARKERS = "osD^vP*Xh<>p"


def draw(report: Report, path: Path) -> None:
    """The roof is the rate at the lower bound of the time, which is computed by layers."""
    families: dict[str, dict[int, float]] = {}
    for row in select(report, "rows"):
        best = families.setdefault(row["family"], {})
        best[row["size"]] = max(best.get(row["size"], 0), row["tflops"])
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(10, 5.6), layout="constrained")
        sizes, ceilings = report["sizes"], report["ceilings"]
        axes.axhline(ceilings["bf16"], color="black", lw=1.5)
        axes.annotate(
            f"bf16 matrix products: {ceilings['bf16']:,.3g} TFLOP/s", (sizes[0], ceilings["bf16"]),
            (0, 4), textcoords="offset points",
        )  # fmt: skip
        for name, style in (("8 bit", ":"), ("16 bit", "-"), ("fc weights 8 bit", "--")):
            floors = {n: us for n in sizes if (us := report["floors"][str(n)].get(name))}
            roof = [1e3 * report["gflop"] * n / us for n, us in floors.items()]
            axes.plot(list(floors), roof, style, color="black", lw=1, label=f"roof, {name}")
        axes.set_prop_cycle(
            color=[mpl.colormaps["tab20"](i) for i in (*range(0, 20, 2), *range(1, 20, 2))]
        )
        ranked = sorted(families.items(), key=lambda item: -max(item[1].values()))
        for i, (family, rates) in enumerate(ranked):
            marker = MARKERS[i % len(MARKERS)]
            axes.plot(list(rates), list(rates.values()), marker=marker, ms=5, lw=1, label=family)
        axes.set(xscale="log", yscale="log", xlabel="batch", ylabel="TFLOP/s")
        axes.minorticks_off()
        axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        axes.set_title(
            f"AlexNet on {report['machine']['name']}: the best of each family, and the roof that "
            f"copying at {ceilings['copy'] / 1e3:,.3g} TB/s leaves"
        )
        figure.savefig(path)
        plt.close(figure)
