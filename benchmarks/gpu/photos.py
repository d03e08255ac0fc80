"""The pipeline from JPEG to class: all cores decode for an engine of the server."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet.preprocess import preprocess
from alexnet_client.photos import photos_in
from benchmarks.gpu.candidates import PLANS, needs_gpu
from benchmarks.gpu.workload import Workload
from server.engines.base import Engine, Pending

BATCH, CPU_BATCH, NVJPEG_BATCH = 256, 4, 64
Crop = NDArray[np.uint8]
Row = dict[str, Any]


def measure_decoding(work: Workload, folder: Path) -> Row:
    """Decodes, resizes and crops only."""
    return _rate(work, folder, lambda crops: sum(1 for _ in crops))


def measure_pipeline(work: Workload, folder: Path, runtime: str, precision: str) -> Row:
    """With the copies from and to the host; a batch is gathered while another runs."""
    batch = BATCH if work.cuda else CPU_BATCH
    engine = _engine(work, runtime, precision, batch)

    def classify(crops: Iterator[Crop]) -> int:
        pending, count = deque[Pending](), 0
        while some := list(islice(crops, batch)):
            pending.append(engine.begin(some))
            if len(pending) == engine.depth:
                count += len(pending.popleft()())
        return count + sum(len(wait()) for wait in pending)

    try:
        classify(iter([work.crops[0]] * batch))  # warms up
        return _rate(work, folder, classify)
    finally:
        engine.close()


def measure_nvjpeg(work: Workload, folder: Path) -> Row:
    """Decodes on the GPU, at the photos' own size, without resizing."""
    needs_gpu(work, "nvJPEG")
    from torchvision.io import ImageReadMode, decode_jpeg  # type: ignore[import-not-found]

    data = cycle([torch.frombuffer(bytearray(d), dtype=torch.uint8) for d in _jpegs(folder)])
    begun, count = perf_counter(), -NVJPEG_BATCH  # the first ones warm up
    while (took := perf_counter() - begun) < work.settings.seconds or count <= 0:
        photos = list(islice(data, NVJPEG_BATCH))
        decode_jpeg(photos, mode=ImageReadMode.RGB, device=work.device)
        torch.cuda.synchronize()
        begun = perf_counter() if count < 0 else begun
        count += NVJPEG_BATCH
    return {"per_s": count / took}


def _engine(work: Workload, runtime: str, precision: str, batch: int) -> Engine:
    if runtime == "onnxruntime-cpu":
        from server.engines.ort import OrtEngine

        return OrtEngine(work.onnx, work.bundle.manifest, 1)
    from gpu.open import open_on_gpu

    number = torch.cuda.current_device()
    return open_on_gpu(runtime, work.onnx, precision, number, batch, work.side, work.classes, PLANS)


def _rate(work: Workload, folder: Path, use: Callable[[Iterator[Crop]], int]) -> Row:
    photos, spec = cycle(_jpegs(folder)), work.bundle.manifest.preprocess
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:

        def crops() -> Iterator[Crop]:
            """Decodes just enough photos ahead to keep all threads busy."""
            waiting = deque(pool.submit(preprocess, next(photos), spec) for _ in range(2 * BATCH))
            while waiting:
                yield waiting.popleft().result().crop
                if perf_counter() - begun < work.settings.seconds:
                    waiting.append(pool.submit(preprocess, next(photos), spec))

        begun = perf_counter()
        count = use(crops())
        return {"per_s": count / (perf_counter() - begun)}


def _jpegs(folder: Path) -> list[bytes]:
    """Raises ValueError."""
    found = [data for p in photos_in(folder) if (data := p.read()).startswith(b"\xff\xd8")]
    if not found:
        raise ValueError(f"no JPEG in {folder}")
    return found
