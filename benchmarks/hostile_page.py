"""The page of a record of attacks: a line for each, all its runs side by side; and of memory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST_MS, MOST_MB = 250, 400

PAGE = """\
# Honest photos while strangers attack

`{command}`

{date}, commit {commit}. {cpu}, Python {python}, ONNX Runtime {onnxruntime}, grpcio {grpcio}; the
server, the attackers and the honest client share these cores. For each attack a server starts and
four connections attack it, while a photo is sent every 0.2 s over REST. Wanted: p99 under
{most_ms} ms, none fails, the process grows by less than {most_mb} MB. Of so few photos the p99 is
the slowest.

Each figure is there once for each run. CPUs are what the server and the attackers took of the
cores, on average. The first rows attack nothing: what the machine itself does to a p99.

| beside them | p50, ms | p99, ms | failed | grown, MB | server CPUs | attackers' | |
|---|---|---|---|---|---|---|---|
"""

LEFT = """

## What many leave behind

`{command}`, commit {commit}. Resident MB of the server's process; `after all` is two seconds
later.

| what was done | idle | after a few | most | after all | failed |
|---|---|---|---|---|---|
"""


def write_page(output: Path) -> None:
    """`output`.md, of `output`.jsonl."""
    runs = [json.loads(line) for line in output.with_suffix(".jsonl").read_text().splitlines()]
    attacks = [run for run in runs if "attack" in run]
    left = [run for run in runs if "times" in run]
    page = PAGE.format(**attacks[-1], most_ms=MOST_MS, most_mb=MOST_MB) + "\n".join(_lines(attacks))
    if left:
        page += LEFT.format(**left[-1]) + "\n".join(map(_left, left))
    output.with_suffix(".md").write_text(page + "\n")


def _lines(runs: list[dict[str, Any]]) -> Iterator[str]:
    by_name: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        by_name.setdefault(run["attack"], []).append(run)
    for name, rows in by_name.items():
        figures = (
            [_ms(row, "p50") for row in rows],
            [_ms(row, "p99") for row in rows],
            *([row[key] for row in rows]
              for key in ("failed", "grown_mb", "server_cpus", "attackers_cpus")),
        )  # fmt: skip
        cells = (" · ".join(map(str, each)) for each in figures)
        yield f"| {name} | {' | '.join(cells)} | {_verdict(rows)} |"


def _left(row: dict[str, Any]) -> str:
    cells = (
        row["times"], row["idle_mb"], f"{row['few_mb']} (after {row['few']})", row["most_mb"],
        row["after_mb"], row["failed"],
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def _ms(row: dict[str, Any], quantile: str) -> str:
    return f"{row['ms'][quantile]:.0f}" if row["ms"] else "none answered"


def _verdict(rows: list[dict[str, Any]]) -> str:
    held = sum(
        bool(row["ms"])
        and row["ms"]["p99"] < MOST_MS
        and not row["failed"]
        and row["grown_mb"] < MOST_MB
        for row in rows
    )
    return "held" if held == len(rows) else f"held {held} of {len(rows)} times"
