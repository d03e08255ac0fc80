"""The record as a page and a plot: ours by each peer, in every turn of the same run."""

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl

from benchmarks.peers.peer import PEERS, Peer

mpl.use("agg")  # files, never windows
from matplotlib import pyplot as plt

Found = dict[str, Any]

SERVERS_LINK = "../../benchmarks/peers/servers"
KINDS = {
    ("fp32", "ours int8"): "as deployed: its fp32, ours int8",
    ("fp32", "ours"): "both fp32",
    ("int8", "ours"): "both with our int8",
}
"""Which ratios there are: (precision of the peer, which of ours) -> in words."""

PAGE = """\
# Photos a second, side by side

`{command}`

{date}, commit {commit}. {cpu}, Python {python}, ONNX Runtime {onnxruntime}. {photos}
JPEGs in, the five best classes out. Load by wrk, one thread, keep-alive connections, on the
same machine. Ours and one peer run at a time; each turn asks both in changing order and gives a
ratio: the machine's speed wanders, and only ratios within a turn mean something. All peers decode,
crop and classify by [the same code]({servers}/photo_model.py) behind a server file of their own, as
their documentation has it, and as their users would write it: Pillow decodes the whole photo and
resizes it. Ours decodes a large JPEG at a fraction of its size and resizes by SIMD, which costs
less and is part of every ratio. fp32 is the int8 network without rounding.

![Ours by each peer]({picture})

Ratios are ours by the peer's: the median over the turns, the least and the most. More is better
for photos/s, less for the others. CPU is that of all of a server's processes for a photo. Memory
counts once what its processes share.

"""


def write_page(found: Found, output: Path) -> None:
    """`output`.md and `output`.png."""
    picture = output.with_suffix(".png")
    text = (
        PAGE.format(**found, picture=picture.name, servers=SERVERS_LINK)
        + "\n".join(_lines(found))
        + "\n"
    )
    output.with_suffix(".md").write_text(text)
    _draw(found, picture)


def _rows(found: Found) -> Iterator[tuple[Peer, str, str, str, Found]]:
    """Peer, precision, which of ours, connections, what was found."""
    for precision, ours in KINDS:
        for peer in PEERS:
            rows = found["peers"].get(peer.name, {}).get(precision, {})
            for connections, row in rows.get("connections", {}).items():
                if ours in row["by_peer"]:
                    yield peer, precision, ours, connections, row


def _lines(found: Found) -> Iterator[str]:
    for (precision, ours), words in KINDS.items():
        yield from (
            f"## {words[0].upper()}{words[1:]}", "",
            "| peer | connections | n | photos/s, ours and its | **ratio** | p50 | p99 | CPU "
            "| memory | MB, ours and its |",
            "|---|---|---|---|---|---|---|---|---|---|",
        )  # fmt: skip
        for peer, *kind, connections, row in _rows(found):
            if tuple(kind) != (precision, ours):
                continue
            ratios, turns = row["by_peer"][ours], row["turns"]
            rates, memory = (_pair(turns, ours, name) for name in ("per_s", "memory_mb"))
            cells = (
                peer.title, connections, len(turns), rates, f"**{_spread(ratios['per_s'])}**",
                *(_spread(ratios[name]) for name in ("p50_ms", "p99_ms", "cpu_ms", "memory_mb")),
                memory,
            )  # fmt: skip
            yield f"| {' | '.join(map(str, cells))} |"
        yield ""
    yield from (
        "## The peers",
        "",
        "| peer | as it is deployed here | same best class |",
        "|---|---|---|",
    )
    for peer in PEERS:
        rows = found["peers"].get(peer.name, {})
        shares = {
            f"{row['same_best_class']:.1%} ({precision})"
            if "same_best_class" in row
            else f"{precision}: not measured, {row['not_measured']}"
            for precision, row in rows.items()
        }
        yield f"| {peer.title} | {peer.deployed} | {'; '.join(sorted(shares)) or 'not asked'} |"


def _pair(turns: list[Found], ours: str, figure: str) -> str:
    return " and ".join(f"{median(t[name][figure] for t in turns):,.0f}" for name in (ours, "peer"))


def _spread(ratio: list[float]) -> str:
    return f"{ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f})"


def _draw(found: Found, path: Path) -> None:
    rows = list(_rows(found))
    all_connections = sorted({int(row[3]) for row in rows})
    if not all_connections:
        return
    style: Any = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
    with plt.rc_context(style):
        figure, grid = plt.subplots(
            1, len(all_connections), figsize=(1.5 + 3.2 * len(all_connections), 3.6),
            sharey=True, squeeze=False, layout="constrained", dpi=120,
        )  # fmt: skip
        titles = [peer.title for peer in PEERS if any(row[0] is peer for row in rows)]
        for axes, connections in zip(grid[0], all_connections, strict=True):
            for index, (kind, words) in enumerate(KINDS.items()):
                points = [
                    (titles.index(row[0].title), row[4]["by_peer"][row[2]]["per_s"])
                    for row in rows
                    if row[1:3] == kind and int(row[3]) == connections
                ]
                if points:
                    at = [place + 0.25 * (index - 1) for place, _ in points]
                    middle = [ratio[0] for _, ratio in points]
                    spread = [
                        [ratio[0] - ratio[1] for _, ratio in points],
                        [ratio[2] - ratio[0] for _, ratio in points],
                    ]
                    axes.errorbar(middle, at, xerr=spread, fmt="o", ms=5, label=words)
            axes.axvline(1, color="black", lw=1)
            axes.set_yticks(range(len(titles)), titles)
            axes.set(
                xlabel="ours by the peer's", title=f"{connections} connections", xlim=(0, None)
            )
            axes.grid(axis="x", alpha=0.25)
        grid[0][0].invert_yaxis()
        columns = min(len(KINDS), len(all_connections))
        handles = grid[0][-1].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=columns, frameon=False)
        figure.suptitle("Photos a second: ours by each peer's, in the same turns")
        figure.savefig(path)
        plt.close(figure)
