"""The machine: its description, a timer, and its peak rates."""

import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from importlib.metadata import distributions
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alexnet.resampling import simd

PACKAGES = {
    "torch", "torchvision", "triton", "tensorrt", "tensorrt-rtx", "onnxruntime-gpu", "onnxruntime",
    "cuda-bindings", "onnx", "numpy", "pillow", "cykooz-resizer", "pi-heif",
}  # fmt: skip
MAX_RUNS, MIN_RUNS = 500, 3  # more than 500 do not change the median

Run = Callable[[], Any]


def describe_machine(device: torch.device) -> dict[str, Any]:
    """`name` is that of the GPU, or else the CPU; `hardware` has the details."""
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    name, cores = (models or [platform.machine()])[0], len(os.sched_getaffinity(0))
    hardware = f"{cores} cores of {name}"
    if device.type == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        name = gpu.name
        driver = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
        hardware = (
            f"{name} ({gpu.multi_processor_count} multiprocessors, {gpu.L2_cache_size >> 20} MiB "
            f"of L2, {gpu.total_memory >> 30} GiB), driver {driver}, CUDA {torch.version.cuda}, "
            f"cuDNN {torch.backends.cudnn.version()}; {hardware}"
        )
    found = {(d.name or "").lower(): d.version for d in distributions()}
    return {
        "name": name, "gpu": device.type == "cuda", "hardware": hardware, "cores": cores,
        "date": time.strftime("%Y-%m-%d"), "commit": _output("git", "rev-parse", "--short", "HEAD"),
        "python": platform.python_version(), "resampling": "SIMD" if simd else "Pillow",
        "packages": {package: found[package] for package in sorted(PACKAGES & found.keys())},
    }  # fmt: skip


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"
    except OSError:
        return "unknown"


def time_runs(
    runs: Sequence[Run], device: torch.device, seconds: float, clear: Run | None = None
) -> dict[str, float]:
    """Microseconds per run, `us` is the median, measured for at most about `seconds`.

    The runs take turns. A run counts from the end of the one before, so that launch delays are
    included; with `clear`, which runs before each, from the end of `clear`.
    """

    def mark() -> Any:
        if device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    for run in runs:
        run()
    begin = mark()
    for run in runs:
        run()
    once = _us(begin, mark()) / len(runs)
    pairs, begin = [], mark()
    for run in islice(cycle(runs), int(min(max(1e6 * seconds / max(once, 1), MIN_RUNS), MAX_RUNS))):
        if clear:
            clear()
            begin = mark()
        run()
        pairs.append((begin, mark()))
        begin = pairs[-1][1]
    p10, median, p90 = np.percentile([_us(*pair) for pair in pairs], [10, 50, 90]).tolist()
    return {"us": median, "p10": p10, "p90": p90, "n": len(pairs)}


def _us(begin: Any, end: Any) -> float:
    if isinstance(begin, float):
        return 1e6 * (end - begin)
    end.synchronize()
    return 1e3 * begin.elapsed_time(end)


def ceilings(device: torch.device, seconds: float) -> dict[str, float | str]:
    """Copies in GB/s and matrix products in TFLOP/s, on random data; or why one failed."""
    cuda, matmul = device.type == "cuda", torch.backends.cuda.matmul
    side, copied = (8192, 4 << 30) if cuda else (256, 8 << 20)
    one = torch.ones((), device=device)

    def copy(source: Tensor, target: Tensor, passes: int) -> float:
        took = time_runs([lambda: target.copy_(source, non_blocking=True)], device, seconds)
        return passes * source.nbytes / took["us"] / 1e3

    def product(dtype: torch.dtype, multiply: Callable[[Tensor, Tensor], Tensor]) -> float:
        integers = torch.randint(-128, 128, (2, side, side), device=device)
        numbers = integers if dtype == torch.int8 else torch.randn(2, side, side, device=device)
        a, b = numbers.to(dtype)
        b = b.t()  # 8-bit products require it
        return 2 * side**3 / time_runs([lambda: multiply(a, b)], device, seconds)["us"] / 1e6

    def tf32(a: Tensor, b: Tensor) -> Tensor:
        before, matmul.fp32_precision = matmul.fp32_precision, "tf32"
        try:
            return a @ b
        finally:
            matmul.fp32_precision = before

    def fp8(a: Tensor, b: Tensor) -> Tensor:
        return torch._scaled_mm(a, b, one, one, out_dtype=torch.bfloat16)

    data = torch.randint(0, 256, (copied,), dtype=torch.uint8, device=device)
    measurements: dict[str, Callable[[], float]] = {
        "copy": lambda: copy(data, torch.empty_like(data), 2),  # read and written
        "fp32": lambda: product(torch.float32, torch.mm),
        "tf32": lambda: product(torch.float32, tf32),
        "bf16": lambda: product(torch.bfloat16, torch.mm),
        "fp16": lambda: product(torch.float16, torch.mm),
        "fp8": lambda: product(torch.float8_e4m3fn, fp8),
        "int8": lambda: product(torch.int8, torch._int_mm),
    }
    if cuda:
        pinned, part = torch.empty(copied // 8, dtype=torch.uint8).pin_memory(), data[: copied // 8]
        measurements["to the device"] = lambda: copy(pinned, part, 1)
        measurements["to the host"] = lambda: copy(part, pinned, 1)
    found: dict[str, float | str] = {}
    for name, measure in measurements.items():
        try:
            found[name] = measure()
        except Exception as error:
            found[name] = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return found
