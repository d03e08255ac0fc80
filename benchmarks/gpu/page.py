"""The report as a Markdown page, and as a summary for the terminal.

    python -m benchmarks.gpu.page docs/records/gpu_MACHINE_DATE.json

Writes the page and the plot of a report, also of a run that was stopped.
"""

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.gpu.picture import draw
from benchmarks.gpu.targets import ACCEPTED, SIDE, Report, select, targets

SECTIONS = ("rows", "kernels", "training", "jpeg")
VERDICTS = {True: "met", False: "**missed**", None: "not measured"}
PAGE = """\
# AlexNet on {title}

`{command}`

{date}, commit {commit}. {hardware}. Python {python}, {versions}. Photos are
resized by {resampling}. The network is `{artifact}` of
{bundle}, for crops of {side} px: {gflop:.2f} GFLOP a photo.

- µs: median of n runs in turns over several batches on the device, and the 10th and 90th
  percentile. Cold: the cache is cleared before each run.
- floor: the lower bound, the sum over the layers of the longer of moving and computing, at the peak
  rates below, in the candidate's own precision. Rate: of bf16 matrix products.
- error: norm of the logits' difference from float64, over the norm of those. Top-1: share with the
  same first class. Of {photos} photos: the golden batch, and mixtures of it with noise.
- torch has its defaults (fp32 convolutions in TF32) and cuDNN's search for algorithms.
"""


def write_page(file: Path) -> None:
    """Beside the report `file`: the page, the plot, and in the report the targets."""
    report = json.loads(file.read_text())
    report["targets"] = targets(report)
    file.write_text(json.dumps(report, indent=1) + "\n")
    draw(report, file.with_suffix(".png"))
    file.with_suffix(".md").write_text(markdown(report, file.with_suffix(".png").name))
    print(summary(report))


def markdown(report: Report, picture: str) -> str:
    """`picture` is the name of a file in the same folder."""
    facts = report["machine"]
    title = facts["name"] if facts["gpu"] else "a CPU: only to test the benchmark"
    versions = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    text = PAGE.format(**report, **facts, title=title, versions=versions)
    return text + "\n" + "\n".join(_parts(report, picture)).rstrip() + "\n"


def _parts(report: Report, picture: str) -> Iterator[str]:
    rows = ((t["target"], t["reached"], VERDICTS[t["met"]]) for t in report["targets"])
    yield from _table(f"target, on an H200 at {SIDE} px | reached | ", rows)
    yield from (f"![The best of each family, and the roof]({picture})", "")
    units = {"copy": "GB/s", "to the device": "GB/s", "to the host": "GB/s"}
    rates = (
        (name, v if isinstance(v, str) else f"{v:,.4g} {units.get(name, 'TFLOP/s')}")
        for name, v in report["ceilings"].items()
    )
    yield from ("## Ceilings", "", *_table("what | measured", rates))
    for size in report["sizes"]:
        floors = report["floors"][str(size)].items()
        named = ", ".join(f"{name} {us:,.1f} µs" for name, us in floors)
        yield from (f"## Batch {size}", "", f"Floors: {named}.", "")
        rows_of = sorted(select(report, "rows", size=size), key=lambda r: r["us"])
        heads = (
            "candidate | µs | p10 to p90 | n | cold | photos/s | of floor | of rate | error | top-1"
        )
        yield from _table(heads, map(_candidate, rows_of))
    heads = "kernel | µs | n | GB/s | of copy | torch, µs | times | error"
    kernels = (
        (
            r["name"], f"{r['us']:,.1f}", str(r["n"]), f"{r['gb_per_s']:,.0f}",
            f"{r['of_copy']:.0%}", f"{r['torch_us']:,.1f}", f"{r['torch_us'] / r['us']:.2f}",
            f"{r['error']:.1e}",
        )
        for r in select(report, "kernels")
    )  # fmt: skip
    yield from ("## Kernels", "", *_table(heads, kernels))
    heads = "step of alexnet2012 | ms | p10 to p90 | n | batch | photos/s"
    steps = (
        (
            r["name"], f"{r['us'] / 1e3:,.2f}", f"{r['p10'] / 1e3:,.2f} to {r['p90'] / 1e3:,.2f}",
            str(r["n"]), str(r["batch"]), f"{r['per_s']:,.0f}",
        )
        for r in select(report, "training")
    )  # fmt: skip
    yield from ("## Training", "", *_table(heads, steps))
    photos = ((r["name"], f"{r['per_s']:,.0f}") for r in select(report, "jpeg"))
    yield from ("## From JPEG", "", *_table("what | photos/s", photos))
    reasons: dict[tuple[str, str], list[str]] = {}
    for r in (r for section in SECTIONS for r in report[section] if r["failed"]):
        reasons.setdefault((r["name"], r["failed"]), []).append(str(r.get("size", "")))
    failed = ((name, ", ".join(sizes), why) for (name, why), sizes in reasons.items())
    yield from ("## What did not run", "", *_table("what | batch | why", failed))


def _candidate(r: Report) -> tuple[str, ...]:
    cold, of_floor = r.get("cold_us"), r["of_floor"]
    return (
        r["name"], f"{r['us']:,.1f}", f"{r['p10']:,.1f} to {r['p90']:,.1f}", str(r["n"]),
        f"{cold:,.1f}" if cold else "", f"{r['per_s']:,.0f}",
        f"{of_floor:.0%}" if of_floor else "", f"{r['of_rate']:.0%}",
        f"{r['error']:.1e}" + (" **wrong**" if r["error"] > ACCEPTED else ""), f"{r['top1']:.1%}",
    )  # fmt: skip


def _table(heads: str, rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    lines = ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]
    if not lines:
        return iter(("None.", ""))
    return iter((f"| {heads} |", "|---" * (heads.count("|") + 1) + "|", *lines, ""))


def summary(report: Report) -> str:
    """Microseconds by candidate and size, and the targets."""
    cells: dict[str, dict[int, str]] = {}
    for r in report["rows"]:
        text = "-" if r["failed"] else f"{r['us']:,.1f}"
        cells.setdefault(r["name"], {})[r["size"]] = text
    lines = ["µs".ljust(34) + "".join(f"{size:>11,}" for size in report["sizes"])]
    for name, row in cells.items():
        lines.append(name.ljust(34) + "".join(f"{row.get(n, ''):>11}" for n in report["sizes"]))
    for t in report["targets"]:
        lines.append(f"{VERDICTS[t['met']].strip('*'):>12}  {t['target']}: {t['reached']}")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.page", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("report", type=Path, help="OUTPUT.json of benchmarks.gpu")
    write_page(parser.parse_args().report)
