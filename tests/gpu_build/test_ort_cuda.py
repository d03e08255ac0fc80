"""The real ONNX Runtime for GPUs on a machine without one: a clear error, no CPU session."""

from importlib.metadata import distributions
from mmap import ACCESS_READ, mmap
from pathlib import Path

import pytest

pytest.importorskip("alexnet.onnx_runtime", reason="make test-gpu-build has it")

from alexnet.bundle import Bundle
from alexnet.onnx_runtime import onnxruntime
from gpu import present
from gpu.programs.ort_cuda import OrtProgram, Provider, ProviderError, cuda, tensorrt
from gpu.typed import typed
from tests.gpus import FakeDevice
from tests.paths import STARTER

pytestmark = pytest.mark.skipif(
    not any(distributions(name="onnxruntime-gpu")), reason="make test-gpu-build has it"
)
without_gpu = pytest.mark.skipif(present.count() > 0, reason="this is about machines without")


@pytest.fixture(scope="module")
def fp16() -> bytes:
    bundle = Bundle.open(STARTER)
    return typed(bundle.files[bundle.manifest.artifacts[0].file], "fp16")


def prepare(onnx: bytes, provider: Provider) -> None:
    device = FakeDevice()
    OrtProgram(device, onnx, provider).prepare(1, 1 << 20, 1 << 21, device.stream())


@without_gpu
def test_cuda_without_its_libraries_is_one_clear_error(
    fp16: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ProviderError) as raised:
        prepare(fp16, cuda("fp16"))
    assert str(raised.value) == (
        "ONNX Runtime cannot use CUDAExecutionProvider on GPU 0: libcublasLt.so.13 could not be "
        "loaded: install CUDA 13 and cuDNN 9, pip install 'onnxruntime-gpu[cuda,cudnn]' "
        "nvidia-cublas"
    )
    assert capfd.readouterr().out == "", "nothing is printed on stdout, where the banner goes"


@without_gpu
def test_tensorrt_without_its_libraries_is_one_clear_error(fp16: bytes, tmp_path: Path) -> None:
    with pytest.raises(
        ProviderError, match=r"TensorrtExecutionProvider on GPU 0: lib\S+ could not"
    ):
        prepare(fp16, tensorrt("fp16", (1, 8), 224, tmp_path / "key"))
    assert list(tmp_path.iterdir()) == [], "no engine is left behind"


@pytest.mark.parametrize(
    ("library", "names"),
    [
        ("libonnxruntime_providers_cuda.so", [*cuda("fp16").options, "user_compute_stream"]),
        (
            "onnxruntime_pybind11_state*.so",
            [
                *tensorrt("int8", (1,), 224, None).options, "trt_bf16_enable",
                "trt_engine_cache_enable", "trt_engine_cache_path",
                "trt_timing_cache_enable", "trt_timing_cache_path",
                "gpu_graph_id", "disable_synchronize_execution_providers",
                "session.disable_cpu_ep_fallback", "session.disable_quant_qdq",
            ],
        ),
    ],
)  # fmt: skip
def test_this_onnx_runtime_knows_every_option(library: str, names: list[str]) -> None:
    (path,) = (Path(onnxruntime.__file__).parent / "capi").glob(library)
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        assert [name for name in names if content.find(name.encode()) < 0] == []
