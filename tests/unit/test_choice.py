"""Which runtime is chosen on which machine, and what the error says when none can be."""

import logging
from dataclasses import replace
from importlib.metadata import PackageNotFoundError

import pytest

from alexnet.bundle import Bundle, BundleError
from alexnet.spec import PRECISIONS
from server.engines.choice import Choice, Wanted, choose
from server.engines.runtimes import ENGINES, NVIDIA, RUNTIMES
from tests.fakes import tiny_bundle

EVERYTHING = (*NVIDIA, "onnxruntime", "onnxruntime-gpu", "tensorrt", "torch")


def bundle_of(*kinds: tuple[str, str]) -> Bundle:
    """One artifact for each (runtime, precision)."""
    bundle = tiny_bundle()
    (one,) = bundle.manifest.artifacts
    artifacts = tuple(replace(one, runtime=r, precision=p) for r, p in kinds)
    return replace(bundle, manifest=replace(bundle.manifest, artifacts=artifacts))


INT8 = bundle_of(("onnxruntime", "int8"))
BOTH = bundle_of(("onnxruntime", "fp32"), ("onnxruntime", "int8"))


def chosen(
    bundle: Bundle = INT8,
    gpus: int = 0,
    installed: tuple[str, ...] = ("onnxruntime",),
    engine: str = "auto",
    precision: str = "auto",
    devices: tuple[int, ...] = (),
) -> Choice:
    return choose(bundle, Wanted(engine, precision, devices), gpus, installed)


def summary(choice: Choice) -> tuple[str, str, str, tuple[int, ...]]:
    return choice.runtime.name, choice.precision, choice.artifact.precision, choice.devices


def test_without_a_gpu_int8_runs_on_the_cpu_whatever_is_installed() -> None:
    for installed in (("onnxruntime",), ("onnxruntime-gpu",), EVERYTHING):
        choice = chosen(BOTH, installed=installed)
        assert summary(choice) == ("onnxruntime-cpu", "int8", "int8", ())


def test_fp32_is_served_when_asked_for_or_when_nothing_else_is_there() -> None:
    assert chosen(BOTH, precision="fp32").artifact.precision == "fp32"
    assert chosen(bundle_of(("onnxruntime", "fp32"))).artifact.precision == "fp32"


def test_runtimes_of_the_cpu_are_rivals_unless_one_is_asked_for() -> None:
    both = ("onnxruntime", "openvino")
    choice = chosen(installed=both)
    assert (choice.runtime.name, choice.rivals) == ("onnxruntime-cpu", ("openvino-cpu",))
    assert chosen(gpus=1, installed=(*both, *NVIDIA, "tensorrt")).rivals == ()
    choice = chosen(installed=both, engine="openvino-cpu")
    assert (choice.runtime.name, choice.rivals) == ("openvino-cpu", ())


def test_an_artifact_for_another_runtime_is_skipped() -> None:
    bundle = bundle_of(("other", "int8"), ("onnxruntime", "fp32"))
    assert chosen(bundle).artifact.precision == "fp32"


@pytest.mark.parametrize(
    ("installed", "engine"),
    [
        (EVERYTHING, "tensorrt"),
        ((*NVIDIA, "onnxruntime", "tensorrt-rtx"), "tensorrt"),
        ((*NVIDIA, "onnxruntime", "torch"), "torch-cuda"),
        ((*NVIDIA, "onnxruntime-gpu"), "onnxruntime-cuda"),
        (("onnxruntime", "torch"), "onnxruntime-cpu"),
        (("onnxruntime-gpu", "cuda-bindings", "onnx"), "onnxruntime-cpu"),
        (("onnxruntime",), "onnxruntime-cpu"),
    ],
)
def test_with_a_gpu_the_first_installed_runtime_is_chosen(
    installed: tuple[str, ...], engine: str
) -> None:
    assert chosen(gpus=1, installed=installed).runtime.name == engine


@pytest.mark.parametrize(("torch", "serves"), [("2.13.0", "torch-cuda"), ("2.13.0+cpu", "")])
def test_a_torch_for_cpus_is_no_runtime_of_a_gpu(
    torch: str, serves: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {**dict.fromkeys((*NVIDIA, "onnxruntime"), "1.0"), "torch": torch}

    def version(package: str) -> str:
        if package not in here:
            raise PackageNotFoundError(package)
        return here[package]

    monkeypatch.setattr("server.engines.runtimes.version", version)
    assert choose(INT8, Wanted(), gpus=1).runtime.name == (serves or "onnxruntime-cpu")
    if not serves:
        with pytest.raises(BundleError, match="pip uninstall torch, which knows no GPU; pip inst"):
            choose(INT8, Wanted("torch-cuda"), gpus=1)


def test_a_gpu_runs_fp16_from_the_best_weights_that_the_bundle_has() -> None:
    choice = chosen(BOTH, gpus=1, installed=EVERYTHING)
    assert summary(choice) == ("tensorrt", "fp16", "fp32", (0,))
    choice = chosen(INT8, gpus=1, installed=EVERYTHING)
    assert summary(choice) == ("tensorrt", "fp16", "int8", (0,))


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_int8_and_fp8_on_a_gpu_need_the_int8_artifact(precision: str) -> None:
    choice = chosen(BOTH, gpus=1, installed=EVERYTHING, precision=precision)
    assert summary(choice) == ("tensorrt", precision, "int8", (0,))
    only_fp32 = bundle_of(("onnxruntime", "fp32"))
    with pytest.raises(BundleError, match=f"nothing to run in {precision} for .*; it has fp32"):
        chosen(only_fp32, 1, EVERYTHING, precision=precision)


def test_the_log_says_that_no_installed_runtime_can_use_the_gpu(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        chosen(gpus=1)
    assert "a GPU is here and not used" in caplog.text
    assert "pip install '.[server-tensorrt]' in the checkout" in caplog.text


def test_the_choice_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        chosen(gpus=2, installed=EVERYTHING, devices=(0, 1))
    assert "engine tensorrt on GPU 0, 1 in fp16 from model.fake" in caplog.text


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "onnxruntime-cpu"])
def test_an_engine_that_is_asked_for_and_not_installed_is_an_error(engine: str) -> None:
    (runtime,) = (r for r in RUNTIMES if r.name == engine)
    with pytest.raises(BundleError, match=rf"pip install '\.\[{runtime.extra}\]'"):
        chosen(gpus=1, engine=engine)


@pytest.mark.parametrize("engine", [r.name for r in RUNTIMES if r.on_gpu])
def test_an_engine_of_the_gpu_never_falls_back_to_the_cpu(engine: str) -> None:
    with pytest.raises(BundleError, match="there is no GPU 0: the driver shows 0"):
        chosen(installed=EVERYTHING, engine=engine)


def test_the_error_names_missing_devices() -> None:
    assert chosen(gpus=4, installed=EVERYTHING, devices=(1, 3)).devices == (1, 3)
    with pytest.raises(BundleError, match="there is no GPU 2, 5: the driver shows 2"):
        chosen(gpus=2, installed=EVERYTHING, devices=(0, 2, 5))


def test_devices_with_an_engine_of_the_cpu_is_an_error() -> None:
    with pytest.raises(BundleError, match="onnxruntime-cpu runs on the CPU"):
        chosen(gpus=1, engine="onnxruntime-cpu", devices=(0,))


def test_the_error_says_which_precisions_the_bundle_has() -> None:
    with pytest.raises(BundleError, match="nothing to run in fp32 for onnxruntime-cpu; it has int"):
        chosen(precision="fp32")
    with pytest.raises(BundleError, match="no artifact for onnxruntime-cpu; it has none at all"):
        chosen(bundle_of(("other", "int8")))


def test_the_tolerance_is_larger_on_a_gpu_only() -> None:
    (artifact,) = INT8.manifest.artifacts
    assert chosen().tolerance == artifact.tolerance
    assert artifact.tolerance < chosen(gpus=1, installed=EVERYTHING).tolerance < 0.05


def test_the_option_precision_takes_those_of_all_runtimes() -> None:
    assert {p for runtime in RUNTIMES for p in runtime.precisions} == set(PRECISIONS)
