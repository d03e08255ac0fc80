"""An engine on one GPU: its memory and streams, and the program of the runtime that was chosen."""

import hashlib
import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from alexnet.spec import batch_sizes
from gpu.buckets import BucketEngine, Program
from gpu.cuda import CudaDevice
from gpu.facts import facts
from gpu.typed import typed

log = logging.getLogger(__name__)


def open_on_gpu(
    runtime: str, onnx: bytes, precision: str, number: int,
    largest: int, side: int, classes: int, folder: Path | None,
) -> BucketEngine:  # fmt: skip
    """Batches of up to `largest`; `folder` is where what was built is kept. Each runtime raises
    errors of its own."""
    sizes = batch_sizes(largest)
    device = CudaDevice(number)
    with ExitStack() as failed:
        failed.callback(device.close)
        program = open_program(runtime, onnx, precision, device, sizes, side, classes, folder)
        failed.callback(program.close)
        engine = BucketEngine(device, program, sizes, side, classes)
        failed.pop_all()
    return engine


def open_program(
    runtime: str, onnx: bytes, precision: str, device: CudaDevice,
    sizes: list[int], side: int, classes: int, folder: Path | None,
) -> Program:  # fmt: skip
    if runtime == "tensorrt":
        from gpu.plan import cached
        from gpu.programs.trt import TensorRtProgram

        plan = cached(onnx, precision, sizes, facts(device.number), folder, progress=log.info)
        return TensorRtProgram(plan, device)
    if runtime == "torch-cuda":
        from gpu.programs.torch_cuda import TorchCudaProgram

        return TorchCudaProgram(onnx, precision, device, side, classes)
    from gpu.programs import ort_cuda

    graph = typed(onnx, precision)
    if runtime == "onnxruntime-cuda":
        return ort_cuda.OrtProgram(device, graph, ort_cuda.cuda(precision))
    key: tuple[Any, ...] = (hashlib.sha256(graph).hexdigest(), precision, sizes)
    key += (ort_cuda.version(), facts(device.number))
    name = f"ort-{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}"
    engines = folder / name if folder else None
    return ort_cuda.OrtProgram(device, graph, ort_cuda.tensorrt(precision, sizes, side, engines))
