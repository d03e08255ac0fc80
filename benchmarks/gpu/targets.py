"""The performance targets on an H200, at 224 px, and whether they are met."""

from typing import Any

ACCEPTED = 0.1  # largest error of the logits that a candidate may have
SIDE = 224  # px; a network for smaller crops has less to compute and is not judged
CORES = 16  # that decode; nor is a machine with more
OTHERS = (("torch fp32", 3.0), ("torch.compile max-autotune", 1.3))

Report = dict[str, Any]


def select(report: Report, section: str, **facts: Any) -> list[Report]:
    """The rows that did not fail and have these values."""
    rows = (row for row in report[section] if not row["failed"])
    return [row for row in rows if facts.items() <= row.items()]


def targets(report: Report) -> list[Report]:
    """`met` is None if it was not measured."""
    found: list[Report] = []

    def target(text: str, reached: str, value: float | None, least: float) -> None:
        met = None if value is None else value >= least
        found.append({"target": text, "reached": "" if value is None else reached, "met": met})

    def best(size: int) -> Report:
        rows = select(report, "rows", size=size) if report["side"] == SIDE else []
        rows = [r for r in rows if r["error"] <= ACCEPTED]
        return min(rows, key=lambda row: row["us"], default={"name": "nothing"})

    us, name = best(1).get("us"), best(1)["name"]
    target("batch 1 in 80 µs", f"{us or 0:.1f} µs: {name}", us and 80 / us, 1)
    share, name = best(256).get("of_rate"), best(256)["name"]
    target("batch 256 at 55 % of the bf16 rate", f"{share or 0:.0%}: {name}", share, 0.55)
    for size in (1, 256):
        us, name = best(size).get("us"), best(size)["name"]
        for other, least in OTHERS:
            rows = select(report, "rows", name=other, size=size)
            ratio = rows[0]["us"] / us if rows and us else None
            text = f"batch {size}, {least:g} times as fast as {other}"
            target(text, f"{ratio or 0:.2f} times: {name}", ratio, least)
    fused = [r["of_copy"] for r in select(report, "kernels") if r["name"].startswith("response")]
    text = "fused kernels behind convolutions at 70 % of the copy bandwidth"
    target(text, f"{min(fused, default=0):.0%} or more", min(fused, default=None), 0.7)
    rates = [r["per_s"] for r in select(report, "jpeg") if "then" in r["name"]]
    cores = report["machine"]["cores"]
    rate = max(rates, default=None) if report["side"] == SIDE and cores <= CORES else None
    target(
        f"8,000 photos/s from JPEG to class, {CORES} cores",
        f"{rate or 0:,.0f}/s, {cores} cores",
        rate,
        8000,
    )
    return found
