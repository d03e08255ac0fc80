"""Every way to run the network; each imports its packages when it is opened.

A candidate is opened once, then prepared for batches that stay on the device. A run is enqueued on
torch's current stream and returns logits on the device.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.gpu.workload import Workload

Run = Callable[[], Tensor]
Prepare = Callable[[Tensor], Run]
FP16, BF16 = torch.float16, torch.bfloat16
PLANS = Path("build/gpu")  # caches TensorRT's plans


class Unsupported(Exception):
    """The candidate does not run on this machine; the message says why."""


class Candidate(NamedTuple):
    family: str
    """The plot shows the best of each."""
    open: Callable[[Workload], Prepare]
    floor: str = "16 bit"
    """One of benchmarks.gpu.floor.PRECISIONS."""
    sizes: tuple[int, ...] = ()
    """All if empty; candidates that compile for minutes have only those of the targets."""


def needs_gpu(work: Workload, what: str) -> None:
    if not work.cuda:
        raise Unsupported(f"{what} needs a GPU")


def open_eager(
    work: Workload, dtype: torch.dtype, last: bool = False, graph: bool = False
) -> Prepare:
    """With `last` in channels-last layout."""
    if graph:
        needs_gpu(work, "a CUDA graph")
    return partial(_capture if graph else _bind, work.eager(dtype, channels_last=last))


def open_compiled(work: Workload, mode: str) -> Prepare:
    """torch captures CUDA graphs itself, and copies the batch into them."""
    needs_gpu(work, f"torch.compile in mode {mode}")
    torch._dynamo.reset()
    network = work.eager(BF16, channels_last=True)
    return partial(_bind, torch.compile(network, mode=mode, dynamic=False))


def open_ours(work: Workload, dtype: torch.dtype) -> Prepare:
    """gpu.network, on a GPU in a CUDA graph."""
    from gpu.network import Network

    return partial(_capture if work.cuda else _bind, Network(work.onnx, dtype, work.device))


def open_fused(work: Workload, dtype: torch.dtype, weights: torch.dtype | None = None) -> Prepare:
    """The same with our kernels."""
    from gpu.fused import FusedNetwork

    network = FusedNetwork(work.onnx, dtype, work.device, weights)
    return partial(_capture if work.cuda else _bind, network)


def open_served(work: Workload, runtime: str, precision: str) -> Prepare:
    """An engine of the server, without its copies from and to the host."""
    needs_gpu(work, runtime)
    from gpu.cuda import CudaDevice
    from gpu.open import open_program

    device, sizes = CudaDevice(torch.cuda.current_device()), sorted(work.settings.sizes)
    program = open_program(
        runtime, work.onnx, precision, device, sizes, work.side, work.classes, PLANS
    )

    def prepare(images: Tensor) -> Run:
        logits = torch.empty(len(images), work.classes, device=work.device)
        stream = torch.cuda.current_stream().cuda_stream
        torch.cuda.synchronize()  # the warm-up may use another stream than the images
        launch = program.prepare(len(images), images.data_ptr(), logits.data_ptr(), stream)

        def run() -> Tensor:
            launch()
            return logits

        run.images = images  # type: ignore[attr-defined] # keeps the memory that the program reads
        return run

    return prepare


def _bind(network: Callable[[Tensor], Tensor], images: Tensor) -> Run:
    return partial(network, images)


def _capture(network: Callable[[Tensor], Tensor], images: Tensor) -> Run:
    for _ in range(3):  # cuDNN and cuBLAS select and allocate, which a capture must not contain
        network(images)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = network(images)

    def run() -> Tensor:
        graph.replay()
        return logits

    return run


HALF = ("fp16", "16 bit")
SERVED = {
    "tensorrt": (HALF, ("bf16", "16 bit"), ("int8", "8 bit"), ("fp8", "8 bit")),
    "torch-cuda": (HALF,),
    "onnxruntime-cuda": (HALF,),
    "onnxruntime-tensorrt": (HALF,),
}
EIGHT = (("int8", torch.int8), ("fp8", torch.float8_e4m3fn))
CANDIDATES = {
    "torch fp32": Candidate("torch fp32", lambda work: open_eager(work, torch.float32), "fp32"),
    "torch bf16": Candidate("torch bf16", lambda work: open_eager(work, BF16)),
    "torch bf16, NHWC": Candidate("torch bf16", lambda work: open_eager(work, BF16, True)),
    "torch bf16, NHWC, graph": Candidate(
        "torch bf16, graph", lambda work: open_eager(work, BF16, True, True)
    ),
    "ours bf16": Candidate("ours", lambda work: open_ours(work, BF16)),
    "ours fp16": Candidate("ours", lambda work: open_ours(work, FP16)),
    "ours bf16, fused": Candidate("ours, fused", lambda work: open_fused(work, BF16)),
    "ours fp16, fused": Candidate("ours, fused", lambda work: open_fused(work, FP16)),
    **{
        f"ours fp16, fused, fc {name}": Candidate(
            "ours, fused, fc 8 bit", partial(open_fused, dtype=FP16, weights=dtype),
            "fc weights 8 bit",
        )
        for name, dtype in EIGHT
    },
    **{
        f"{runtime} {precision}": Candidate(
            f"{runtime}, {bits}", partial(open_served, runtime=runtime, precision=precision), bits
        )
        for runtime, precisions in SERVED.items()
        for precision, bits in precisions
    },
    **{
        f"torch.compile {mode}": Candidate(
            "torch.compile", partial(open_compiled, mode=mode), sizes=sizes
        )
        for mode, sizes in (("reduce-overhead", ()), ("max-autotune", (1, 256)))
    },
}  # fmt: skip
