"""The program of ONNX Runtime on a GPU, with fakes for both that keep a log."""

import logging
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gpu.buckets import BucketEngine
from gpu.programs import ort_cuda
from gpu.programs.ort_cuda import OrtProgram, Provider, ProviderError, cuda, tensorrt
from tests.gpus import FakeDevice

SIDE, CLASSES = 2, 3
CUDA, TENSORRT, CPU = (f"{name}ExecutionProvider" for name in ("CUDA", "Tensorrt", "CPU"))


class Options:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value

    add_run_config_entry = add_session_config_entry


class FakeOrt:
    """In place of the module onnxruntime. Logits are the sum of the crop's pixels."""

    __file__, __version__ = "", "1.31"
    SessionOptions = RunOptions = Options

    def __init__(self, device: FakeDevice):
        self.device = device
        self.get_available_providers = lambda: [TENSORRT, CUDA, CPU]
        self.takes: list[str] | None = None
        self.session_error: Exception | None = None
        self.library_error: OSError | None = None
        self.run_errors: list[Exception | None] = []
        self.sessions: list[weakref.ref[Session]] = []
        self.opened: list[dict[Any, Any]] = []
        self.runs: list[tuple[int, int, dict[str, str]]] = []  # size, images, options

    def CDLL(self, path: str) -> None:  # noqa: N802
        if self.library_error:
            raise self.library_error

    def preload_dlls(self) -> None:
        print("Failed to load libcublas.so.13")

    def InferenceSession(  # noqa: N802
        self, onnx: bytes, options: Options, providers: list[tuple[str, dict[str, str]]], *,
        enable_fallback: int,
    ) -> "Session":  # fmt: skip
        ((name, settings),) = providers
        self.opened.append(
            {onnx: name, "fall back": enable_fallback, **settings, **options.entries}
        )
        if "trt_engine_cache_path" in settings:
            (Path(settings["trt_engine_cache_path"]) / "some.engine").write_bytes(b"engine")
        if self.session_error:
            raise self.session_error
        session = Session(self, int(settings["user_compute_stream"]), self.takes or [name, CPU])
        self.sessions.append(weakref.ref(session))
        return session


class Session:
    def __init__(self, ort: FakeOrt, stream: int, providers: list[str]):
        self.ort, self.stream = ort, stream
        images = SimpleNamespace(name="images", shape=["batch", SIDE, SIDE, 3])
        logits = SimpleNamespace(name="logits", shape=["batch", CLASSES])
        self.get_providers = lambda: providers
        self.get_inputs, self.get_outputs = lambda: [images], lambda: [logits]
        self.io_binding = Binding

    def run_with_iobinding(self, binding: "Binding", options: Options) -> None:
        ort, (images, shape) = self.ort, binding.given["images"]
        ort.runs.append((shape[0], images, options.entries))
        if ort.run_errors and (error := ort.run_errors.pop(0)):
            raise error
        logits, wanted = binding.given["logits"]

        def work() -> None:
            sums = ort.device.at(images, shape, np.uint8).sum((1, 2, 3), np.float32)
            ort.device.at(logits, wanted, np.float32)[:] = sums[:, None]

        ort.device.enqueue(self.stream, work)


class Binding:
    def __init__(self) -> None:
        self.given: dict[str, tuple[int, tuple[int, ...]]] = {}

    def bind_input(
        self, name: str, kind: str, device: int, dtype: Any, shape: tuple[int, ...], address: int
    ) -> None:
        assert (kind, device) == ("cuda", 0)
        assert dtype == {"images": np.uint8, "logits": np.float32}[name]
        self.given[name] = address, shape

    bind_output = bind_input


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


@pytest.fixture
def ort(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> FakeOrt:
    ort = FakeOrt(device)
    monkeypatch.setattr(ort_cuda, "onnxruntime", ort)
    monkeypatch.setattr(ort_cuda, "ctypes", ort)
    found = {"tensorrt_libs": ["tensorrt-cu13-libs"]}
    fake = SimpleNamespace(packages_distributions=lambda: found, version="{} 10.9".format)
    monkeypatch.setattr(ort_cuda, "metadata", fake)
    return ort


def program(device: FakeDevice) -> OrtProgram:
    return OrtProgram(device, b"graph", cuda("fp16"))


def prepare(device: FakeDevice, provider: Provider = cuda("fp16")) -> Any:  # noqa: B008
    images, logits, stream = device.memory(48), device.memory(48), device.stream()
    return OrtProgram(device, b"graph", provider).prepare(4, images, logits, stream)


def test_batches_of_every_size_go_through_the_buckets(device: FakeDevice, ort: FakeOrt) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), np.uint8)
    engine = BucketEngine(device, program(device), (1, 2, 4), SIDE, CLASSES)
    assert engine.name == "onnxruntime-cuda-fp16:0"
    for count in (1, 2, 3, 4):
        sums = crops[:count].sum((1, 2, 3), np.float32)
        np.testing.assert_array_equal(engine.run(crops[:count]), np.stack([sums] * CLASSES, 1))
    assert (len(ort.sessions), len(ort.runs)) == (1, 2 * 3 * 3), "batches are replayed, not run"


def test_each_size_and_address_warms_up_before_its_own_capture(
    device: FakeDevice, ort: FakeOrt
) -> None:
    running, stream, logits = program(device), device.stream(), device.memory(48)
    for what in (asked := [(size, device.memory(48)) for size in (4, 2, 4)]):
        running.prepare(*what, logits, stream)
    at_once = (waiting := {"gpu_graph_id": "-1"}) | {"disable_synchronize_execution_providers": "1"}
    assert ort.runs == [(*what, how) for what in asked for how in (waiting, waiting, at_once)]
    assert device.captured == 3


def test_the_session_may_not_fall_back_to_the_cpu(
    device: FakeDevice, ort: FakeOrt, capsys: pytest.CaptureFixture[str]
) -> None:
    program(device).prepare(1, device.memory(12), device.memory(12), stream := device.stream())
    assert ort.opened == [{
        b"graph": CUDA, "fall back": 0, "device_id": "0", "user_compute_stream": str(stream),
        "prefer_nhwc": "1", "fuse_conv_bias": "1", "cudnn_conv_algo_search": "EXHAUSTIVE",
        "enable_cuda_graph": "1", "session.disable_cpu_ep_fallback": "1",
        "session.disable_quant_qdq": "1",
    }]  # fmt: skip
    assert capsys.readouterr().out == ""


def test_a_second_stream_is_a_bug_of_the_caller(device: FakeDevice, ort: FakeOrt) -> None:
    running = program(device)
    running.prepare(1, device.memory(12), device.memory(12), device.stream())
    with pytest.raises(AssertionError, match="one stream"):
        running.prepare(1, device.memory(12), device.memory(12), device.stream())


def test_a_run_that_cannot_be_captured_is_launched_without_a_graph(
    device: FakeDevice, ort: FakeOrt, caplog: pytest.LogCaptureFixture
) -> None:
    refused, remembered = RuntimeError("not while capturing"), RuntimeError("an earlier error")
    ort.run_errors = [None, None, refused, remembered, None]
    launch = prepare(device)
    assert "without a CUDA graph: not while capturing" in caplog.text
    assert (len(ort.runs), ort.run_errors) == (5, [])
    launch()
    assert "disable_synchronize_execution_providers" in ort.runs[5][2]


def test_a_closed_program_frees_its_session(device: FakeDevice, ort: FakeOrt) -> None:
    running = program(device)
    running.prepare(1, device.memory(12), device.memory(12), device.stream())
    device._streams.clear()  # they hold the warm-ups
    running.close()
    assert ort.sessions[0]() is None


def test_tensorrt_keeps_its_engine_for_the_next_start(
    device: FakeDevice, ort: FakeOrt, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    provider = tensorrt("int8", (1, 8, 32, 64), SIDE, tmp_path / "plans" / "key")
    prepare(device, provider)
    assert ort_cuda.version() == "1.31 tensorrt-cu13-libs 10.9", "which is in the key"
    assert [file.name for file in tmp_path.rglob("*")] == ["plans", "key", "some.engine"]
    assert caplog.text.count("builds its engine") == 1
    assert (tmp_path / "plans" / "key").stat().st_mode & 0o777 == 0o755, "for other users, too"
    prepare(device, provider)
    assert caplog.text.count("builds its engine") == 1
    caches = ("trt_engine_cache_path", "trt_timing_cache_path")
    at = [Path(opened[cache]) for opened in ort.opened for cache in caches]
    assert at[0] == at[1] != at[2] == at[3] == provider.engines
    assert at[0].parent == at[2].parent, "renaming needs one file system"
    second = ort.opened[1]
    shapes = [f"{which} {second[f'trt_profile_{which}_shapes']}" for which in ("min", "opt", "max")]
    assert shapes == ["min images:1x2x2x3", "opt images:32x2x2x3", "max images:64x2x2x3"]
    assert {key for key, value in second.items() if value == "True"} == {
        "trt_fp16_enable", "trt_int8_enable", "trt_engine_cache_enable", "trt_timing_cache_enable",
    }  # fmt: skip


@pytest.mark.parametrize("engines", [None, "file/below/key"])
def test_without_a_place_for_it_the_engine_is_built_and_not_kept(
    device: FakeDevice, ort: FakeOrt, tmp_path: Path, engines: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    (tmp_path / "file").write_text("in the way")
    prepare(device, tensorrt("fp16", (4,), SIDE, tmp_path / engines if engines else None))
    assert not [key for key in ort.opened[0] if "cache" in str(key)]
    assert ("not kept for the next start" in caplog.text) == bool(engines)
    assert [file.name for file in tmp_path.rglob("*")] == ["file"]


def test_an_unfinished_engine_is_not_kept(device: FakeDevice, ort: FakeOrt, tmp_path: Path) -> None:
    ort.session_error = RuntimeError("out of memory")
    with pytest.raises(ProviderError, match="out of memory"):
        prepare(device, tensorrt("fp16", (4,), SIDE, tmp_path / "key"))
    assert list(tmp_path.iterdir()) == []


def test_the_engine_of_a_process_that_was_faster_is_not_replaced(
    device: FakeDevice, ort: FakeOrt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(path: Path, target: Path, rename: Any = Path.rename) -> Any:
        target.mkdir()
        (target / "other.engine").touch()
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    prepare(device, tensorrt("fp16", (4,), SIDE, tmp_path / "key"))
    assert [file.name for file in tmp_path.rglob("*")] == ["key", "other.engine"]


@pytest.mark.parametrize("provider", [cuda("bf16"), tensorrt("fp8", (1,), 2, Path())])
def test_a_precision_that_the_provider_lacks_is_refused(provider: Provider) -> None:
    with pytest.raises(ValueError, match=r"no onnxruntime-.*: choose one of fp32"):
        OrtProgram(FakeDevice(), b"graph", provider)


BRINGS = {
    "libcuda.so.1": "NVIDIA's driver",
    "libnvinfer.so.10": "TensorRT 10",
    "libnvrtc.so.13": "CUDA 13 and cuDNN 9",
}


@pytest.mark.parametrize("library", BRINGS)
@pytest.mark.parametrize("told", ["by the session", "by the first run", "to stderr alone"])
def test_the_error_names_a_missing_library_and_what_installs_it(
    device: FakeDevice, ort: FakeOrt, library: str, told: str
) -> None:
    error = OSError(f"{library}: cannot open shared object file: No such file or directory")
    if told == "by the first run":  # as when cuDNN is missing
        ort.run_errors = [error]
    elif told == "by the session":
        ort.session_error = error
    else:
        ort.session_error, ort.library_error = RuntimeError("nodes are on the CPU"), error
    with pytest.raises(ProviderError, match=f"{library} could not .* install {BRINGS[library]}"):
        prepare(device)


def test_of_any_other_error_the_first_line_is_reported(device: FakeDevice, ort: FakeOrt) -> None:
    ort.session_error = RuntimeError("no GPU is left\nin line 8 of graph.cc")
    with pytest.raises(ProviderError, match=r"CUDAExecutionProvider on GPU 0: no GPU is left$"):
        prepare(device)


def test_a_session_on_the_cpu_is_an_error(device: FakeDevice, ort: FakeOrt) -> None:
    ort.takes = [CPU]
    with pytest.raises(ProviderError, match="on GPU 0: it took CPUExecutionProvider"):
        prepare(device)


def test_a_runtime_without_the_provider_is_told_apart(device: FakeDevice, ort: FakeOrt) -> None:
    """onnxruntime, which the server depends on, lies over onnxruntime-gpu when it came later."""
    ort.get_available_providers = lambda: [CPU]
    ort.session_error = ValueError("unknown provider")
    with pytest.raises(ProviderError, match="is built without it: pip install --force-reinstall"):
        prepare(device)
