"""Plans: built by TensorRT for RTX, which needs no GPU, cached, and refused if unusable."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, call

import pytest
import torch

from alexnet.bundle import Bundle
from alexnet.labels import Labels
from export.to_onnx import to_onnx
from gpu import builder, plan
from gpu.facts import Gpu
from gpu.plan import Plan, PlanError, PlanKey, cached, tensorrt
from gpu.typed import PRECISIONS
from tests.paths import STARTER
from training.importers import IMAGENET_MEAN, IMAGENET_STD, TrainedModel
from training.network import AlexNet

trt = pytest.importorskip("tensorrt_rtx", reason="make test-gpu-build has it")

ADA = Gpu("NVIDIA L4", (8, 9), "580.95.05")
RUNS = f"tensorrt_rtx {trt.__version__}"
KEY = PlanKey("0" * 64, "fp16", (1, 8), RUNS, ADA)


@pytest.fixture(scope="module")
def starter() -> bytes:
    bundle = Bundle.open(STARTER)
    return bundle.files[bundle.manifest.artifacts[0].file]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A network of 2012 with 64 hidden units, in float."""
    monkeypatch.setattr("training.network.HIDDEN", 64)
    torch.manual_seed(0)
    network = AlexNet(10, "alexnet2012", dropout=0.0).eval()
    model = TrainedModel(
        network, IMAGENET_MEAN, IMAGENET_STD, Labels.imagenet(), 1000, {}, "0" * 64, crop=224
    )
    return to_onnx(model, 224)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Replaces the builder by a fake; collects the batch sizes of its builds."""
    batch_sizes: list[tuple[int, ...]] = []

    def build(_: Any, graph: bytes, sizes: tuple[int, ...], **__: Any) -> tuple[bytes, bytes]:
        batch_sizes.append(tuple(sizes))
        return b"engine of %d bytes" % len(graph), b""

    monkeypatch.setattr(plan, "build", build)
    return batch_sizes


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_of_the_starter_builds_for_several_batch_sizes(
    precision: str, starter: bytes
) -> None:
    built = cached(starter, precision, (1, 8, 32), ADA, None)
    assert len(built.engine) > 30e6  # each weight is stored once, in a byte or more
    assert [built.key.profile(size) for size in (1, 8, 32)] == [0, 1, 2]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_network_of_2012_with_its_norms_builds(precision: str, small: bytes) -> None:
    assert cached(small, precision, (1, 4), ADA, None).engine


def test_the_second_start_builds_nothing(
    small: bytes, tmp_path: Path, builds: list[tuple[int, ...]]
) -> None:
    first = cached(small, "fp16", (1, 2), ADA, tmp_path / "new")
    assert cached(small, "fp16", (1, 2), ADA, tmp_path / "new") == first
    assert builds == [(1, 2)]
    assert [file.name for file in (tmp_path / "new").iterdir()] == [f"{first.key.digest}.plan"]


def test_without_a_folder_nothing_is_cached(small: bytes, builds: list[tuple[int, ...]]) -> None:
    cached(small, "fp16", (1,), ADA, None)
    cached(small, "fp16", (1,), ADA, None)
    assert len(builds) == 2


def test_a_plan_built_ahead_is_used_by_every_gpu_of_the_capability(
    small: bytes, tmp_path: Path, builds: list[tuple[int, ...]]
) -> None:
    ahead = cached(small, "fp16", (1,), Gpu("", (8, 9), ""), tmp_path)
    assert cached(small, "fp16", (1,), ADA, tmp_path) == ahead
    cached(small, "fp16", (1,), Gpu("NVIDIA A100", (8, 0), "580"), tmp_path)
    assert len(builds) == 2


DAMAGES: list[Callable[[bytes], bytes]] = [
    lambda data: b"",
    lambda data: data[:40],
    lambda data: data[:-1],
    lambda data: data[:-1] + b"\0",
    lambda data: b"another" + data,
    lambda data: plan.MAGIC + b"\n[1]\n",
    lambda data: Plan(replace(KEY, onnx="1" * 64), b"engine of another graph").to_bytes(),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_plan_is_rebuilt_with_a_warning(
    damage: Callable[[bytes], bytes], small: bytes, tmp_path: Path,
    builds: list[tuple[int, ...]], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    kept = cached(small, "fp16", (1,), ADA, tmp_path)
    file = kept.key.file(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert cached(small, "fp16", (1,), ADA, tmp_path) == kept
    assert len(builds) == 2
    assert file.read_bytes() == whole
    assert [r.levelno for r in caplog.records].count(logging.WARNING) == 1
    assert f"{file} cannot be used, and is built again: " in caplog.text


def test_a_failed_build_leaves_no_files(
    small: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "typed", lambda onnx, precision: b"no graph")
    with pytest.raises(PlanError, match=r"tensorrt_rtx [\d.]+ cannot read the graph: "):
        cached(small, "fp16", (1,), ADA, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_no_files_and_is_only_logged(
    small: bytes, tmp_path: Path, builds: list[tuple[int, ...]],
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert cached(small, "fp16", (1,), ADA, tmp_path).engine
    assert "not kept for the next start: [Errno 28]" in caplog.text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"onnx": "1" * 64}, {"precision": "bf16"}, {"sizes": (1, 16)}, {"tensorrt": "tensorrt 12"},
        {"gpu": replace(ADA, name="NVIDIA L40S")}, {"gpu": replace(ADA, capability=(9, 0))},
        {"gpu": replace(ADA, driver="581")}, {"level": 5}, {"workspace": 1},
    ],
)  # fmt: skip
def test_any_other_field_gives_another_digest(change: dict[str, Any]) -> None:
    other = replace(KEY, **change)
    assert other.digest != KEY.digest
    assert Plan.read(Plan(other, b"e").to_bytes(), other.tensorrt, other.gpu).key == other


def test_a_truncated_plan_is_one_clear_error() -> None:
    with pytest.raises(PlanError, match="the plan is damaged"):
        Plan.read(Plan(KEY, b"engine").to_bytes()[:-2], RUNS, ADA)


def test_a_plan_of_another_tensorrt_is_one_clear_error() -> None:
    with pytest.raises(PlanError, match=f"built by {RUNS}, and here is tensorrt 12.0"):
        Plan.read(Plan(KEY, b"engine").to_bytes(), "tensorrt 12.0", ADA)


@pytest.mark.parametrize("gpu", [replace(ADA, name="NVIDIA H200"), replace(ADA, capability=(9, 0))])
def test_a_plan_for_another_gpu_is_one_clear_error(gpu: Gpu) -> None:
    with pytest.raises(PlanError, match=r"built for NVIDIA L4 \(.* 8.9\), and here is NVIDIA"):
        Plan.read(Plan(KEY, b"engine").to_bytes(), RUNS, gpu)


def test_a_batch_size_that_the_plan_has_no_profile_for_is_one_clear_error() -> None:
    with pytest.raises(PlanError, match="for batches of 1, 8, not of 9"):
        KEY.profile(9)


@pytest.mark.parametrize(
    ("precision", "capability", "first"),
    [("fp8", (8, 6), "8.9"), ("bf16", (7, 5), "8.0"), ("fp16", (7, 0), "7.5")],
)
def test_a_gpu_without_the_precision_is_one_clear_error(
    precision: str, capability: tuple[int, int], first: str
) -> None:
    with pytest.raises(PlanError, match=f"{precision} needs compute capability {first}, and here"):
        cached(b"", precision, (1,), Gpu("NVIDIA Old", capability, "1"), None)


@pytest.mark.parametrize("sizes", [(), (0, 1), (2, 1), (1, 1)])
def test_batch_sizes_that_do_not_increase_are_one_clear_error(sizes: tuple[int, ...]) -> None:
    with pytest.raises(PlanError, match="positive and rising"):
        cached(b"", "fp16", sizes, ADA, None)


def test_the_error_contains_the_builders_message(starter: bytes) -> None:
    """fp8 for a GPU without it, bypassing our own check."""
    graph = plan.typed(starter, "fp8")
    with pytest.raises(PlanError, match=r"cannot build the plan: .*sm80.*fp8"):
        builder.build(trt, graph, (1,), capability=(8, 0), exact=False, timings=b"", progress=print)


def test_progress_is_reported_during_the_build(
    small: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "REPORT_EVERY_S", 0.0)
    messages: list[str] = []
    cached(small, "fp16", (1,), ADA, None, progress=messages.append)
    assert messages[0] == f"building the fp16 plan for batches of 1 on {ADA} with {RUNS}"
    assert any(line.endswith("3 of 6") for line in messages[1:-1])
    assert messages[-1].startswith("built ")


def test_tensorrt_gets_its_timing_cache_or_an_empty_one_and_a_workspace(small: bytes) -> None:
    proper = MagicMock(__name__="tensorrt", __version__="11.4.0")
    for name in ("ILogger", "IProgressMonitor", "NetworkDefinitionCreationFlag"):
        setattr(proper, name, getattr(trt, name))
    network = proper.Builder.return_value.create_network.return_value
    network.get_input.return_value.shape = (-1, 224, 224, 3)
    proper.Builder.return_value.build_serialized_network.return_value = b"engine"
    config = proper.Builder.return_value.create_builder_config.return_value
    config.set_timing_cache.side_effect = (False, True)  # the old cache is of another GPU
    config.get_timing_cache.return_value.serialize.return_value = b"new"
    built = builder.build(
        proper, small, (1,), capability=(9, 0), exact=False, timings=b"old", progress=print
    )
    assert built == (b"engine", b"new")
    assert config.create_timing_cache.call_args_list == [call(b"old"), call(b"")]
    config.set_memory_pool_limit.assert_called_once_with(
        proper.MemoryPoolType.WORKSPACE, builder.WORKSPACE_BYTES
    )


def test_a_run_of_rtx_takes_no_memory(small: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    make = trt.Builder.create_builder_config

    def kept(builder: Any) -> Any:
        made.append(make(builder))
        return made[-1]

    monkeypatch.setattr(trt.Builder, "create_builder_config", kept)
    assert cached(small, "fp16", (1, 4), ADA, None).engine
    assert made[0].get_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)


def test_another_builder_gives_another_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = KEY.digest
    monkeypatch.setattr(plan, "MAGIC", b"alexnet plan 1")
    assert KEY.digest != before


def test_the_timing_cache_is_kept_for_the_next_build(
    small: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[bytes] = []

    def build(*_: Any, timings: bytes, **__: Any) -> tuple[bytes, bytes]:
        given.append(timings)
        return b"engine", timings + b"+"

    monkeypatch.setattr(plan, "build", build)
    for sizes in ((1,), (2,), (4,)):
        cached(small, "fp16", sizes, ADA, tmp_path)
    cached(small, "fp16", (1,), Gpu("NVIDIA H200", (9, 0), "580.95.05"), tmp_path)
    assert given == [b"", b"+", b"++", b""]


def test_the_first_installed_tensorrt_is_used() -> None:
    assert tensorrt(("no_such_tensorrt", "tensorrt_rtx")) is trt
    with pytest.raises(PlanError, match="no-such-tensorrt is not installed: pip install no-such"):
        tensorrt(("no_such_tensorrt",))


def test_a_tensorrt_that_cannot_be_loaded_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_tensorrt.py").write_text("raise OSError('libnvinfer.so.11 is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PlanError, match=r"cannot be loaded: libnvinfer\.so\.11 is missing"):
        tensorrt(("broken_tensorrt", "tensorrt_rtx"))
