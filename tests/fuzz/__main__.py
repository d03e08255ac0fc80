"""A long run: python -m tests.fuzz --seconds 3600 --keep findings/"""

import argparse
import hashlib
import time
from collections import Counter
from pathlib import Path
from random import Random

from tests.fuzz.search import search, shrunk
from tests.fuzz.targets import targets

ROUND = 20


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="folder for findings")
    parser.add_argument("--only", default="", help="one target")
    options = parser.parse_args()
    known = {name: t for name, t in targets().items() if options.only in ("", name)}
    searches = {name: search(name, t, Random(options.seed)) for name, t in known.items()}
    inputs: Counter[str] = Counter()
    found: Counter[tuple[str, str]] = Counter()
    began = time.monotonic()
    while time.monotonic() - began < options.seconds:
        for name, results in searches.items():
            for _ in range(ROUND):
                finding = next(results)
                inputs[name] += 1
                if finding is None:
                    continue
                found[name, finding.why] += 1
                if found[name, finding.why] <= 3:  # of a kind
                    small = shrunk(known[name], finding)
                    options.keep.mkdir(parents=True, exist_ok=True)
                    digest = hashlib.sha256(small.data).hexdigest()[:12]
                    path = options.keep / f"{name.replace(' ', '-')}-{digest}"
                    path.write_bytes(small.data)
                    print(f"{name}: {finding.why}: {path} ({len(small.data)} bytes)", flush=True)
    took = time.monotonic() - began
    for name, count in inputs.items():
        kinds = sum(key[0] == name for key in found)
        print(f"{name:10} {count:>9,} inputs, {kinds} kinds of faults")
    total = inputs.total()
    print(f"{total:,} inputs in {took:.0f} s, {total / took:.0f} a second")
    return bool(found)


if __name__ == "__main__":
    raise SystemExit(main())
