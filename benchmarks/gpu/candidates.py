"""Every way to run the network; each imports what it needs when it is opened.

A candidate is opened once, then prepared for batches that lie on the device and stay there. A run
is put on torch's current stream, and gives the logits, there too.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.gpu.subject import Subject

Run = Callable[[], Tensor]
Prepare = Callable[[Tensor], Run]
FP16, BF16 = torch.float16, torch.bfloat16
PLANS = Path("build/gpu")  # what TensorRT built, for the next run


class Unfit(Exception):
    """It is not for this machine; the message says why."""


class Candidate(NamedTuple):
    family: str
    """The picture shows the best of each."""
    open: Callable[[Subject], Prepare]
    floor: str = "16 bit"
    """One of benchmarks.gpu.floor.PRECISIONS."""
    sizes: tuple[int, ...] = ()
    """All, if there are none; what compiles for minutes has those of the targets."""


def needs_gpu(it: Subject, what: str) -> None:
    if not it.cuda:
        raise Unfit(f"{what} needs a GPU")


def eager(it: Subject, dtype: torch.dtype, last: bool = False, graph: bool = False) -> Prepare:
    """With `last`, channels last."""
    if graph:
        needs_gpu(it, "a CUDA graph")
    return partial(_captured if graph else _plain, it.eager(dtype, channels_last=last))


def compiled(it: Subject, mode: str) -> Prepare:
    """torch captures graphs of its own, into which it copies the batch."""
    needs_gpu(it, f"torch.compile in mode {mode}")
    torch._dynamo.reset()
    network = it.eager(BF16, channels_last=True)
    return partial(_plain, torch.compile(network, mode=mode, dynamic=False))


def ours(it: Subject, dtype: torch.dtype) -> Prepare:
    """gpu.network: in a graph, where there are graphs."""
    from gpu.network import Network

    return partial(_captured if it.cuda else _plain, Network(it.onnx, dtype, it.device))


def fused(it: Subject, dtype: torch.dtype, weights: torch.dtype | None = None) -> Prepare:
    """The same with our kernels."""
    from gpu.fused import FusedNetwork

    network = FusedNetwork(it.onnx, dtype, it.device, weights)
    return partial(_captured if it.cuda else _plain, network)


def served(it: Subject, runtime: str, precision: str) -> Prepare:
    """One of the server's, without its copies from and to the host."""
    needs_gpu(it, runtime)
    from gpu.cuda import CudaDevice
    from gpu.open import open_program

    device, sizes = CudaDevice(torch.cuda.current_device()), sorted(it.settings.sizes)
    program = open_program(runtime, it.onnx, precision, device, sizes, it.side, it.classes, PLANS)

    def prepare(images: Tensor) -> Run:
        logits = torch.empty(len(images), it.classes, device=it.device)
        stream = torch.cuda.current_stream().cuda_stream
        torch.cuda.synchronize()  # the images are there, whatever stream it warms up on
        launch = program.prepare(len(images), images.data_ptr(), logits.data_ptr(), stream)

        def run() -> Tensor:
            launch()
            return logits

        run.images = images  # type: ignore[attr-defined] # its memory is the program's too
        return run

    return prepare


def _plain(network: Callable[[Tensor], Tensor], images: Tensor) -> Run:
    return partial(network, images)


def _captured(network: Callable[[Tensor], Tensor], images: Tensor) -> Run:
    for _ in range(3):  # cuDNN and cuBLAS choose and reserve, which no graph may hold
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
    "torch fp32": Candidate("torch fp32", lambda it: eager(it, torch.float32), "fp32"),
    "torch bf16": Candidate("torch bf16", lambda it: eager(it, BF16)),
    "torch bf16, NHWC": Candidate("torch bf16", lambda it: eager(it, BF16, True)),
    "torch bf16, NHWC, graph": Candidate(
        "torch bf16, graph", lambda it: eager(it, BF16, True, True)
    ),
    "ours bf16": Candidate("ours", lambda it: ours(it, BF16)),
    "ours fp16": Candidate("ours", lambda it: ours(it, FP16)),
    "ours bf16, fused": Candidate("ours, fused", lambda it: fused(it, BF16)),
    "ours fp16, fused": Candidate("ours, fused", lambda it: fused(it, FP16)),
    **{
        f"ours fp16, fused, fc {name}": Candidate(
            "ours, fused, fc 8 bit", partial(fused, dtype=FP16, weights=dtype), "fc weights 8 bit"
        )
        for name, dtype in EIGHT
    },
    **{
        f"{runtime} {precision}": Candidate(
            f"{runtime}, {bits}", partial(served, runtime=runtime, precision=precision), bits
        )
        for runtime, precisions in SERVED.items()
        for precision, bits in precisions
    },
    **{
        f"torch.compile {mode}": Candidate(
            "torch.compile", partial(compiled, mode=mode), sizes=sizes
        )
        for mode, sizes in (("reduce-overhead", ()), ("max-autotune", (1, 256)))
    },
}  # fmt: skip
