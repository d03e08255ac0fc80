"""The program of torch on a GPU, with a fake CUDA that lists every call."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from gpu.alone import ALONE
from gpu.programs.torch_cuda import TorchCudaProgram

SIDE, CLASSES, STREAM = 2, 3, 77
RUN = f"run {SIDE} x {SIDE} in stream {STREAM}"


class Gpu:
    """In place of torch.cuda, and of our own device."""

    number = 0

    def __init__(self, count: int = 1, capability: tuple[int, int] = (9, 0)):
        self.count, self.capability = count, capability
        self.log: list[str] = []
        self.streams: list[int] = []

    def device_count(self) -> int:
        return self.count

    def get_device_capability(self, number: int) -> tuple[int, int]:
        return self.capability

    def get_device_name(self, number: int) -> str:
        return "Tesla T4"

    def synchronize(self, device: torch.device) -> None:
        self.log.append(f"synchronize {device}")

    def empty_cache(self) -> None:
        self.log.append("empty cache")

    def graph_pool_handle(self) -> str:
        return f"pool {sum('into' in line for line in self.log)}"

    def ExternalStream(self, handle: int, device: torch.device) -> int:  # noqa: N802
        return handle

    def CUDAGraph(self) -> "Graph":  # noqa: N802
        return Graph(self)

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        yield

    @contextmanager
    def stream(self, handle: int) -> Iterator[None]:
        self.streams.append(handle)
        yield
        self.streams.pop()

    @contextmanager
    def graph(
        self, graph: "Graph", pool: str, stream: int, *, capture_error_mode: str
    ) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        assert ALONE.locked()
        self.log.append(f"capture into {pool}")
        with self.stream(stream):
            yield
        self.log.append("captured")


class Graph:
    def __init__(self, gpu: Gpu):
        self.gpu = gpu

    def replay(self) -> None:
        self.gpu.log.append(f"replay in stream {self.gpu.streams[-1]}")

    def reset(self) -> None:
        assert ALONE.locked(), "another version may be capturing"
        self.gpu.log.append("reset")


class Brightness:
    """The logit of every class is the sum of the crop's pixels."""

    gpu: Gpu

    def __init__(self, onnx: bytes, dtype: torch.dtype, device: torch.device):
        self.gpu.log.append(f"load {onnx.decode()} as {dtype} on {device}")

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        assert images.dtype == torch.uint8
        self.gpu.log.append(f"run {images.shape[1]} x {images.shape[2]} in stream "
                            f"{self.gpu.streams[-1]}")  # fmt: skip
        return images.float().sum((1, 2, 3))[:, None].expand(-1, CLASSES)


def on_cpu(memory: Any, device: torch.device) -> torch.Tensor:
    """torch.as_tensor for a fake GPU: memory of the CPU, described as memory on a GPU."""
    assert device == torch.device("cuda", 0)
    described = memory.__cuda_array_interface__
    (address, read_only), dtype = described["data"], np.dtype(described["typestr"])
    assert not read_only
    assert described["version"] == 3
    nbytes = dtype.itemsize * int(np.prod(described["shape"]))
    buffer = (ctypes.c_uint8 * nbytes).from_address(address)
    return torch.from_numpy(np.frombuffer(buffer, dtype).reshape(described["shape"]))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    gpu = Gpu()
    monkeypatch.setattr(torch, "cuda", gpu)
    monkeypatch.setattr(torch, "as_tensor", on_cpu)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(Brightness, "gpu", gpu, raising=False)
    return gpu


def program(gpu: Gpu, precision: str = "fp16") -> TorchCudaProgram:
    device: Any = gpu
    brightness: Any = Brightness
    return TorchCudaProgram(b"graph", precision, device, SIDE, CLASSES, brightness, "-test")


def test_a_batch_is_computed_from_one_address_to_the_other(gpu: Gpu) -> None:
    images = np.arange(2 * SIDE * SIDE * 3, dtype=np.uint8).reshape(2, SIDE, SIDE, 3)
    logits = np.full((3, CLASSES), np.nan, np.float32)
    program(gpu).prepare(2, images.ctypes.data, logits.ctypes.data, STREAM)
    np.testing.assert_array_equal(logits[:2], np.repeat([[66.0], [210.0]], CLASSES, axis=1))
    assert np.isnan(logits[2]).all()


def test_it_warms_up_captures_and_then_only_replays_all_on_one_stream(gpu: Gpu) -> None:
    images, logits = np.zeros((1, SIDE, SIDE, 3), np.uint8), np.zeros((1, CLASSES), np.float32)
    torch_program = program(gpu)
    assert torch_program.name == "torch-cuda-fp16-test"
    launch = torch_program.prepare(1, images.ctypes.data, logits.ctypes.data, STREAM)
    launch()
    launch()
    torch_program.close()
    assert gpu.log == [
        "load graph as torch.float16 on cuda:0", "synchronize cuda:0",
        RUN, RUN, RUN, "capture into pool 0", RUN, "captured",
        "replay in stream 77", "replay in stream 77",
        "synchronize cuda:0", "reset", "empty cache",
    ]  # fmt: skip
    assert gpu.streams == []
    assert torch.backends.cudnn.benchmark


def test_graphs_share_their_memory_on_one_stream_only(gpu: Gpu) -> None:
    images, logits = np.zeros((4, SIDE, SIDE, 3), np.uint8), np.zeros((4, CLASSES), np.float32)
    torch_program = program(gpu)
    for size, stream in ((4, 7), (1, 7), (4, 8), (1, 7)):
        torch_program.prepare(size, images.ctypes.data, logits.ctypes.data, stream)
    assert [line[-6:] for line in gpu.log if "capture into" in line] == [
        "pool 0", "pool 0", "pool 2", "pool 0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("gpus", "capability", "precision", "sentence"),
    [
        (1, (9, 0), "int8", "torch-cuda runs in fp32, fp16, bf16, not in int8"),
        (0, (9, 0), "fp16", "sees 0 GPUs and cannot use GPU 0: install a build of torch for CUDA"),
        (1, (7, 5), "bf16", r"GPU 0 \(Tesla T4\) has no bf16: choose fp16"),
    ],
)
def test_the_error_says_why_it_cannot_run_here(
    gpu: Gpu, gpus: int, capability: tuple[int, int], precision: str, sentence: str
) -> None:
    gpu.count, gpu.capability = gpus, capability
    with pytest.raises(ValueError, match=sentence):
        program(gpu, precision)
    assert gpu.log == []
