"""Ours and other servers side by side: the same photos, the same model, the same load, in turns.

    python -m benchmarks.peers ../shared/photos --output docs/records/peers_MACHINE_DATE

Each peer has an environment of its own under build/peers, made when it is first wanted (4 GB for
all). Ours and one peer run at a time; each turn asks both, in changing order, and gives ratios.
The peers' server files are in benchmarks/peers/servers/. Needs wrk (apt install wrk). Writes
OUTPUT.json, .md and .png; what is not asked again keeps its figures, if they are of this commit.
"""

import argparse
import json
import shlex
import shutil
import sys
from pathlib import Path

from alexnet.bundle import Bundle
from alexnet.samples import photo
from alexnet_client.photos import photos_in
from benchmarks.peers.environment import CannotRun
from benchmarks.peers.model import PRECISIONS, write_models
from benchmarks.peers.page import write_page
from benchmarks.peers.peer import PEERS
from benchmarks.peers.turns import Bench, compare
from benchmarks.server import STARTER, continued, describe_run

DRAWN = 24
PHOTOS = Path("../shared/photos")


def photos_of(folder: Path) -> list[bytes]:
    """JPEGs of a folder; drawn ones of ImageNet's usual size where there is none."""
    if folder.is_dir():
        found = [each for each in photos_in(folder) if each.name.lower().endswith(("jpeg", "jpg"))]
        return [each.read() for each in found]
    print(f"{folder} is not here: drawn photos", flush=True)
    return [photo("JPEG", 0.19, seed) for seed in range(DRAWN)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photos", type=Path, nargs="?", default=PHOTOS)
    parser.add_argument("--output", type=Path, default=Path("build/peers/record"),
                        help="without a suffix (default: build/peers/record)")  # fmt: skip
    parser.add_argument("--only", nargs="+", choices=[peer.name for peer in PEERS], metavar="PEER",
                        default=[peer.name for peer in PEERS])  # fmt: skip
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--connections", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=5, help="of each load")
    parser.add_argument("--python", default="/usr/bin/python3", help="for the environments")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        parser.error("wrk is not installed: apt install wrk")
    work = Path("build/peers").resolve()
    work.mkdir(parents=True, exist_ok=True)
    bench = Bench(photos_of(options.photos), work, options.python, options.rounds, options.seconds)
    write_models(Bundle.open(STARTER), bench.models)
    record = options.output.with_suffix(".json")
    facts = describe_run("python -m benchmarks.peers " + shlex.join(sys.argv[1:]))
    found = {"peers": {}} | continued(record, {**facts, "photos": len(bench.photos)})
    for peer in PEERS:
        for precision in options.precision:
            if peer.name not in options.only:
                continue
            print(f"{peer.title}, {precision}", flush=True)
            rows = found["peers"].setdefault(peer.name, {})
            try:
                new = compare(peer, precision, options.connections, bench)
                before = rows.get(precision, {}).get("connections", {})
                rows[precision] = new | {"connections": before | new["connections"]}
            except CannotRun as reason:
                print(f"  not measured: {reason}", flush=True)
                rows[precision] = {"not_measured": str(reason), "connections": {}}
            record.parent.mkdir(parents=True, exist_ok=True)
            record.write_text(json.dumps(found, indent=1) + "\n")
    write_page(found, options.output)
    print(f"{options.output}.md")


if __name__ == "__main__":
    main()
