"""Every engine on a GPU, compared with the peak rates of the chip.

    python -m benchmarks.gpu --bundle models/starter.tar.xz --output docs/records/gpu_MACHINE_DATE

Measures the machine's peak rates, our kernels, every way to run the network at every batch size
with its error, a training step, and, given photos, the pipeline from JPEG to class. A candidate
that is not installed, fails or kills its process gets a row with the reason. Writes OUTPUT.json
after every row, and OUTPUT.md and OUTPUT.png at the end; of a run that was stopped
`python -m benchmarks.gpu.page OUTPUT.json` writes these.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

from benchmarks.gpu.candidates import CANDIDATES, SERVED
from benchmarks.gpu.floor import PRECISIONS, LayerCost, floor_us
from benchmarks.gpu.kernels import KERNELS, measure_kernel
from benchmarks.gpu.measure import attempt, describe, measure_candidate, measure_training_step
from benchmarks.gpu.page import write_page
from benchmarks.gpu.photos import measure_decoding, measure_nvjpeg, measure_pipeline
from benchmarks.gpu.worker import Worker, WorkerLostError
from benchmarks.gpu.workload import Settings

LIMIT_S = 180.0  # of one row: some candidates compile for minutes
SLACK_S = 30.0  # of the last row, after the end
Row = dict[str, Any]


class Benchmark:
    """Collects the report and saves it after every row."""

    def __init__(
        self, settings: Settings, output: Path, only: str, minutes: float,
        clock: Callable[[], float] = time.monotonic,
    ):  # fmt: skip
        self.settings, self.file, self.only = settings, output.with_suffix(".json"), only
        self.clock, self.end = clock, clock() + 60 * minutes
        self.worker = Worker() if settings.device.startswith("cuda") else None
        self.layers: list[LayerCost] = []
        self.report: dict[str, Any] = {
            "command": "python -m benchmarks.gpu " + shlex.join(sys.argv[1:]),
            "bundle": str(settings.bundle), "sizes": settings.sizes, "photos": settings.photos,
            "rows": [], "kernels": [], "training": [], "jpeg": [],
        }  # fmt: skip

    def run(self, folder: Path | None) -> None:
        report, sizes = self.report, self.settings.sizes
        first = self.call(describe)
        if reason := first.pop("failed"):
            raise SystemExit(f"nothing can be measured: {reason}")
        self.layers = first.pop("layers")
        report |= first
        report["gflop"] = sum(layer.flop(1) for layer in self.layers) / 1e9
        report["floors"] = {str(size): self.floors(size) for size in sizes}
        self.write()
        for name in KERNELS:
            self.add("kernels", {"name": name}, measure_kernel, name)
        slow = {name for name, candidate in CANDIDATES.items() if candidate.sizes}
        self.candidates(CANDIDATES.keys() - slow)
        for name, fused in (("torch's norms", False), ("our norms", True)):
            self.add("training", {"name": name}, measure_training_step, fused)
        if folder:
            self.add("jpeg", {"name": "decode on all cores"}, measure_decoding, folder)
            self.add("jpeg", {"name": "decode by nvJPEG, no resizing"}, measure_nvjpeg, folder)
            for name in SERVED if report["machine"]["gpu"] else ("onnxruntime-cpu",):
                row = {"name": f"decode on all cores, then {name} fp16"}
                self.add("jpeg", row, measure_pipeline, folder, name, "fp16")
        self.candidates(slow)

    def candidates(self, names: Set[str]) -> None:
        for name, (family, _, floor, some) in CANDIDATES.items():
            for size in self.settings.sizes if name in names else ():
                if not some or size in some:
                    row = {"name": name, "size": size, "family": family, "floor": floor}
                    self.add("rows", row, measure_candidate, name, size)
                    if row.get("lost"):
                        break

    def add(self, section: str, row: Row, measure: Callable[..., Row], *given: Any) -> None:
        """Measures a row if it is selected and there is time, and saves the report."""
        if self.only not in row["name"]:
            return
        late = self.clock() > self.end
        row |= {"failed": "no time was left"} if late else self.call(measure, *given)
        if not row["failed"]:
            row |= self._ratios(row)
        self.report[section].append(row)
        text = row["failed"] or " ".join(
            f"{k} {row[k]:,.6g}" for k in ("us", "of_copy", "per_s", "error") if k in row
        )
        print(f"{section}: {row['name']} {row.get('size', '')}: {text}", flush=True)
        self.write()

    def call(self, measure: Callable[..., Row], *given: Any) -> Row:
        if self.worker is None:
            return attempt(measure, self.settings, *given)
        limit_s = min(LIMIT_S, self.end + SLACK_S - self.clock())
        try:
            row: Row = self.worker.call(attempt, measure, self.settings, *given, limit_s=limit_s)
        except WorkerLostError as error:
            return {"failed": str(error), "lost": True}
        if row.pop("broken", False):
            self.worker.end()
        return row

    def _ratios(self, row: Row) -> Row:
        """The row relative to the peak rates and the lower bound."""
        ceilings = self.report["ceilings"]
        if "gb_per_s" in row:
            return {"of_copy": row["gb_per_s"] / ceilings["copy"]}
        if "size" not in row:
            return {}
        tflops = self.report["gflop"] * row["size"] / row["us"] * 1e3
        floor = self.report["floors"][str(row["size"])].get(row["floor"])
        return {
            "per_s": 1e6 * row["size"] / row["us"], "tflops": tflops,
            "of_rate": tflops / ceilings["bf16"], "of_floor": floor and floor / row["us"],
        }  # fmt: skip

    def floors(self, size: int) -> dict[str, float]:
        """Lower bounds in microseconds by precision, where both peak rates are known."""
        known = {k: v for k, v in self.report["ceilings"].items() if isinstance(v, float)}
        return {
            name: floor_us(self.layers, size, p, 1e9 * known["copy"], 1e12 * known[p.rate])
            for name, p in PRECISIONS.items()
            if p.rate in known
        }

    def write(self) -> None:
        """Saves the report so far, atomically."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.report, indent=1) + "\n")
        temporary.replace(self.file)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=(__doc__ or "")[:52])
    parser.add_argument("--bundle", type=Path, default=Path("models/starter.tar.xz"))
    parser.add_argument("--output", type=Path, required=True, help="without a suffix")
    parser.add_argument("--device", default="cuda", help="cpu: only to test the benchmark")
    parser.add_argument("--sizes", default="1,8,32,128,256,1024", help="of the batches")
    parser.add_argument("--only", default="", help="only rows with this in their names")
    parser.add_argument("--seconds", type=float, default=2.0, help="time per row")
    parser.add_argument("--minutes", type=float, default=8.0,
                        help="start no row after this time, end half a minute later")  # fmt: skip
    parser.add_argument("--photos", type=int, default=256, help="number of photos for the error")
    parser.add_argument("--jpegs", type=Path, help="a folder or zip of photos to decode")
    options = parser.parse_args()
    sizes = tuple(int(size) for size in options.sizes.split(","))
    settings = Settings(options.bundle, options.device, sizes, options.seconds, options.photos)
    benchmark = Benchmark(settings, options.output, options.only, options.minutes)
    try:
        benchmark.run(options.jpegs)
    finally:
        if benchmark.worker:
            benchmark.worker.end()
    write_page(benchmark.file)


if __name__ == "__main__":
    main()
