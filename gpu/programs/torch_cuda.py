"""torch on an NVIDIA GPU, without TensorRT: gpu.network, in one CUDA graph for each batch size."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from gpu.alone import ALONE
from gpu.buckets import Device, Launch
from gpu.network import Network

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
WARM_UPS = 3  # the first ones choose algorithms and reserve memory, which no graph may hold


class TorchCudaProgram:
    """Not run on a GPU yet. Raises ValueError for what torch cannot do here, and as Network does.

    `network` is what to make of the graph, gpu.fused's for one; `variant` then goes into the name.
    """

    def __init__(
        self, onnx: bytes, precision: str, device: Device, side: int, classes: int,
        network: Callable[..., Network] = Network, variant: str = "",
    ):  # fmt: skip
        _check(precision, device.number)
        self.name = f"torch-cuda-{precision}{variant}"
        self._side, self._classes = side, classes
        self._device = torch.device("cuda", device.number)
        torch.backends.cudnn.benchmark = True  # the first run of each size tries every algorithm
        self._network = network(onnx, DTYPES[precision], self._device)
        torch.cuda.synchronize(self._device)  # the weights went by another stream than ours
        self._pools: dict[int, Any] = {}
        self._graphs: list[torch.cuda.CUDAGraph] = []

    def prepare(self, size: int, images: int, logits: int, stream: int) -> Launch:
        crops = _tensor_at(images, (size, self._side, self._side, 3), "|u1", self._device)
        answers = _tensor_at(logits, (size, self._classes), "<f4", self._device)
        queue = torch.cuda.ExternalStream(stream, self._device)
        # Graphs may share their memory if no two run at once, as on one stream; in any order, since
        # none leaves its result there.
        pool = self._pools.setdefault(stream, torch.cuda.graph_pool_handle())
        graph = torch.cuda.CUDAGraph()
        with ALONE, torch.cuda.device(self._device):
            with torch.cuda.stream(queue):
                for _ in range(WARM_UPS):
                    answers.copy_(self._network(crops))
            # What other threads do meanwhile, with other GPUs or models, is no part of it.
            with torch.cuda.graph(graph, pool, queue, capture_error_mode="thread_local"):
                answers.copy_(self._network(crops))
        self._graphs.append(graph)

        def launch() -> None:
            with torch.cuda.stream(queue):  # a graph is put on the stream that is current
                graph.replay()

        return launch

    def close(self) -> None:
        """Waits for what is under way; what `prepare` returned is of no use any more."""
        with ALONE:
            self._free()

    def _free(self) -> None:
        torch.cuda.synchronize(self._device)
        for graph in self._graphs:
            graph.reset()
        del self._network
        # cuBLAS's workspace for our stream stays: torch frees only those of all streams at once,
        # and the graphs of a version that serves on have captured the address of theirs.
        torch.cuda.empty_cache()  # the next model's engine may be another runtime's


def _check(precision: str, number: int) -> None:
    if precision not in DTYPES:
        raise ValueError(f"torch-cuda runs in {', '.join(DTYPES)}, not in {precision}")
    if number >= torch.cuda.device_count():
        raise ValueError(
            f"torch {torch.__version__} sees {torch.cuda.device_count()} GPUs and cannot use GPU "
            f"{number}: install a build of torch for CUDA and a driver that is new enough for it"
        )
    if precision == "bf16" and torch.cuda.get_device_capability(number) < (8, 0):
        name = torch.cuda.get_device_name(number)
        raise ValueError(f"GPU {number} ({name}) has no bf16: choose fp16")


def _tensor_at(address: int, shape: tuple[int, ...], kind: str, device: torch.device) -> Tensor:
    """Memory that others own: torch reads where it is from CUDA's array interface."""
    described = {"data": (address, False), "shape": shape, "typestr": kind, "version": 3}
    return torch.as_tensor(SimpleNamespace(__cuda_array_interface__=described), device=device)
