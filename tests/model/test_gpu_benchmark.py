"""The GPU benchmark runs from end to end on a CPU; its times are not checked."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from alexnet.bundle import Bundle, sha256
from alexnet.golden import Golden
from alexnet.labels import Labels
from alexnet.manifest import File
from alexnet.manifest import Tensor as TensorSpec
from alexnet.spec import PIXEL_SCALE, PIXEL_ZERO, Preprocess
from benchmarks.gpu import __main__ as command
from benchmarks.gpu import candidates, machine, measure
from benchmarks.gpu.candidates import Candidate, Prepare
from benchmarks.gpu.page import write_page
from benchmarks.gpu.worker import Worker, WorkerLostError
from benchmarks.gpu.workload import Settings, Workload, make_photos
from export.to_onnx import to_onnx
from tests.fakes import CLASSES, tiny_bundle
from tests.paths import STARTER
from tests.photos import draw, jpeg
from training.importers import TrainedModel
from training.network import AlexNet

SIDE = 224
BOTH = ["torch fp32", "torch bf16", "torch bf16, NHWC", "ours bf16", "ours fp16"]


def test_the_starter_with_its_small_crops_is_measured() -> None:
    work = Workload(Settings(STARTER, "cpu", (1,), 0.01, 2))
    row = measure.measure_candidate(work, "torch fp32", 1)
    assert row["error"] < 1e-6
    assert row["top1"] == 1


@pytest.fixture
def bundle(narrow: None, tmp_path: Path) -> Path:
    """The one-tower network with narrow layers and initial weights, in float32."""
    torch.manual_seed(0)
    network, scale = AlexNet(CLASSES, dropout=0).eval(), (PIXEL_SCALE,) * 3
    zero, labels = (PIXEL_ZERO,) * 3, Labels.imagenet()
    onnx = to_onnx(TrainedModel(network, zero, scale, labels, CLASSES, {}, "0" * 64, SIDE), SIDE)
    crops = np.stack([np.asarray(draw(SIDE, SIDE, seed=seed)) for seed in range(2)])
    golden = Golden(crops, np.zeros((2, CLASSES), np.float32)).to_bytes()
    tiny = tiny_bundle()
    (artifact,) = tiny.manifest.artifacts
    manifest = replace(
        tiny.manifest,
        preprocess=Preprocess(SIDE, SIDE),
        input=TensorSpec("images", "uint8", ("batch", SIDE, SIDE, 3)),
        artifacts=(replace(artifact, sha256=sha256(onnx), precision="fp32"),),
        golden=File("golden.npz", sha256(golden)),
    )
    files = {**tiny.files, "model.fake": onnx, "golden.npz": golden}
    Bundle(manifest, files, "narrow").write(tmp_path / "narrow")
    return tmp_path / "narrow"


def in_float32(x: Tensor, weight: Tensor, bias: Tensor | None = None, *how: Any) -> Tensor:
    """A convolution whose sums are float32, and whose result is of the type of its input."""
    added = None if bias is None else bias.float()
    return torch.conv2d(x.float(), weight.float(), added, *how).to(x.dtype)


@pytest.fixture
def run(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The command with these flags -> its report, read back; few runs of each."""
    monkeypatch.setattr(measure, "_opened", None)
    monkeypatch.setattr("benchmarks.gpu.workload.L2_BYTES", 0)
    monkeypatch.setattr("benchmarks.gpu.photos.BATCH", 8)
    # A CPU without instructions for 16 bits takes 30 times as long for the same.
    monkeypatch.setattr("torch.nn.functional.conv2d", in_float32)

    def run(*flags: str) -> dict[str, Any]:
        output = ["--output", str(tmp_path / "records" / "gpu")]
        given = ["--bundle", str(bundle), "--device", "cpu", "--seconds", "0.01", *output, *flags]
        monkeypatch.setattr("sys.argv", ["b", *given, "--sizes", "1,2", "--photos", "3"])
        command.main()
        return json.loads((tmp_path / "records" / "gpu.json").read_text())  # type: ignore[no-any-return]

    yield run
    measure.get_workload.cache_clear()


def test_it_writes_a_record_a_page_and_a_plot(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(jpeg())
    report = run("--jpegs", str(tmp_path / "photos"))
    rows = {(row["name"], row["size"]): row for row in report["rows"]}
    ran = [key for key, row in rows.items() if not row["failed"]]
    assert set(ran) >= {(name, size) for name in BOTH for size in (1, 2)}
    for key in ran:
        row = rows[key]
        assert row["p10"] <= row["us"] <= row["p90"]
        assert row["per_s"] == pytest.approx(1e6 * row["size"] / row["us"])
        assert row["of_floor"] == pytest.approx(
            report["floors"][str(row["size"])][row["floor"]] / row["us"]
        )
        assert row["of_rate"] == pytest.approx(row["tflops"] / report["ceilings"]["bf16"])
        assert row["top1"] in (0, 0.25, 1 / 3, 0.5, 2 / 3, 0.75, 1)
    assert rows["torch fp32", 2]["error"] < 1e-6
    assert 1e-5 < rows["torch bf16", 1]["error"] < 2e-2
    assert rows["torch bf16, NHWC, graph", 1]["failed"] == "a CUDA graph needs a GPU"
    assert rows["tensorrt fp8", 2]["failed"] == "tensorrt needs a GPU"
    assert ("torch.compile max-autotune", 2) not in rows
    assert {row["name"]: bool(row["failed"]) for row in report["training"]} == {
        "torch's norms": False, "our norms": True,
    }  # fmt: skip
    pipeline = report["jpeg"][-1]
    assert pipeline["name"] == "decode on all cores, then onnxruntime-cpu fp16"
    assert pipeline["per_s"] > 0
    assert (tmp_path / "records" / "gpu.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "records" / "gpu.md").read_text()
    assert f"`{report['command']}`" in page
    assert f"torch {torch.__version__}" in page
    assert f"{report['machine']['cores']} cores of" in page
    row = rows["ours fp16", 2]
    spread = f"{row['p10']:,.1f} to {row['p90']:,.1f} | {row['n']} |"
    assert f"| ours fp16 | {row['us']:,.1f} | {spread}" in page
    assert "| tensorrt fp8 | 1, 2 | tensorrt needs a GPU |" in page
    assert "ours fp16" in capsys.readouterr().out
    (tmp_path / "records" / "gpu.md").unlink()
    write_page(tmp_path / "records" / "gpu.json")
    assert (tmp_path / "records" / "gpu.md").read_text() == page


def open_faulty(work: Workload, factor: float) -> Prepare:
    """Returns the network's logits times `factor`."""
    network = work.eager(torch.float32)
    return lambda images: lambda: factor * network(images)


def open_silent(work: Workload) -> Prepare:
    """Never writes its logits again."""
    network = work.eager(torch.float32)

    def prepare(images: Tensor) -> Any:
        logits = network(images)
        return lambda: logits

    return prepare


def open_missing(_: Workload) -> Prepare:
    raise ModuleNotFoundError("No module named 'fast'")


def test_wrong_and_failing_candidates_get_rows(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = {
        "test wrong": Candidate("test", lambda work: open_faulty(work, 1.5)),
        "test silent": Candidate("test", open_silent),
        "test missing": Candidate("test", open_missing),
    }
    monkeypatch.setattr(candidates, "CANDIDATES", test)
    for module in (command, measure):
        monkeypatch.setattr(module, "CANDIDATES", test)
    rows = run("--only", "test")["rows"]
    wrong, silence, absent = rows[::2]
    assert wrong["error"] == pytest.approx(0.5, abs=1e-3)
    assert wrong["top1"] == 1
    assert silence["failed"] == f"ValueError: {3 * CLASSES} of {3 * CLASSES} logits are not finite"
    assert absent["failed"] == "ModuleNotFoundError: No module named 'fast'"
    page = (tmp_path / "records" / "gpu.md").read_text()
    assert "5.0e-01 **wrong**" in page
    assert "| test missing | 1, 2 | ModuleNotFoundError: No module named 'fast' |" in page


def test_candidates_without_time_get_rows(run: Any) -> None:
    report = run("--minutes", "0", "--only", "ours bf16")
    assert {row["failed"] for row in report["rows"]} == {"no time was left"}


DESCRIBED = {
    "side": 224, "layers": [], "ceilings": {"bf16": 1.0, "copy": 1.0}, "machine": {"gpu": True},
}  # fmt: skip


def test_a_candidate_whose_process_died_is_not_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next candidate runs in a new process."""
    calls: list[object] = []

    class Dying(Worker):
        def call(self, function: Any, *arguments: Any, limit_s: float) -> Any:
            calls.append(arguments[2:])
            if arguments[2:] == ("first", 1):
                raise WorkerLostError("the process died with exit code -11")
            return {"failed": "", "us": 1.0, **DESCRIBED}

    test = {name: Candidate("test", open_missing) for name in ("first", "second")}
    monkeypatch.setattr(command, "CANDIDATES", test)
    monkeypatch.setattr(command, "KERNELS", {})
    settings = Settings(tmp_path, "cuda", (1, 2), 0.1, 1)
    benchmark = command.Benchmark(settings, tmp_path / "gpu", "", 1)
    benchmark.worker = Dying()
    benchmark.run(None)
    assert calls[1:4] == [("first", 1), ("second", 1), ("second", 2)]
    (lost, *_) = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert lost["failed"] == "the process died with exit code -11"


def test_what_hangs_ends_half_a_minute_after_the_time_and_the_slowest_come_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]

    class Hanging(Worker):
        def call(self, function: Any, *arguments: Any, limit_s: float) -> Any:
            if arguments[0] is command.describe:
                return {"failed": "", **DESCRIBED}
            now[0] += limit_s
            raise WorkerLostError(f"no answer after {limit_s:g} s")

    monkeypatch.setattr(command, "KERNELS", {})
    settings = Settings(tmp_path, "cuda", (1, 2), 0.1, 1)
    benchmark = command.Benchmark(settings, tmp_path / "gpu", "", 8, lambda: now[0])
    benchmark.worker = Hanging()
    benchmark.run(tmp_path)
    assert now == [8 * 60 + command.SLACK_S]
    rows = benchmark.report["rows"]
    assert [row["failed"] for row in rows[:4]] == [
        "no answer after 180 s", "no answer after 180 s", "no answer after 150 s",
        "no time was left",
    ]  # fmt: skip
    *_, jpeg, slowest = capsys.readouterr().out.splitlines()
    assert jpeg.startswith("jpeg: decode on all cores, then onnxruntime-tensorrt")
    assert slowest.startswith("rows: torch.compile max-autotune 1:")


@pytest.mark.process
def test_a_process_that_dies_or_hangs_is_replaced() -> None:
    worker = Worker()
    try:
        with pytest.raises(WorkerLostError, match="exit code 3"):
            worker.call(os._exit, 3, limit_s=60)
        assert worker.call(len, "four", limit_s=60) == 4
        with pytest.raises(WorkerLostError, match=r"no answer after 0\.1 s"):
            worker.call(time.sleep, 60, limit_s=0.1)
        assert worker.call(len, "four", limit_s=60) == 4
    finally:
        worker.end()


def test_runs_take_turns_and_sweeping_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, log = [0.0], []

    def advance(seconds: float, name: str) -> Any:
        def run() -> None:
            clock[0] += seconds
            log.append(name)

        return run

    monkeypatch.setattr(machine.time, "perf_counter", lambda: clock[0])
    runs, cpu = [advance(0.25, "a"), advance(0.75, "b")], torch.device("cpu")
    times = machine.time_runs(runs, cpu, seconds=2, clear=advance(8, "sweep"))
    assert log[4:] == ["sweep", "a", "sweep", "b"] * 2
    assert times == pytest.approx({"us": 5e5, "p10": 2.5e5, "p90": 7.5e5, "n": 4})


def test_the_record_says_what_resizes(monkeypatch: pytest.MonkeyPatch) -> None:
    for simd, name in ((object(), "SIMD"), (None, "Pillow")):
        monkeypatch.setattr(machine, "simd", simd)
        assert machine.describe_machine(torch.device("cpu"))["resampling"] == name
    assert {"cykooz-resizer", "pi-heif"} <= machine.PACKAGES


def test_the_photos_are_all_different() -> None:
    crops = np.stack([np.asarray(draw(32, 32, seed=seed)) for seed in range(2)])
    photos = make_photos(crops, 20)
    assert photos.shape == (20, 32, 32, 3)
    assert (photos[:2] == crops).all()
    assert len({photo.tobytes() for photo in photos}) == 20
