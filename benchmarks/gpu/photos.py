"""Photos from JPEG to class: the decoders of all cores feed an engine of the server."""

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
from benchmarks.gpu.candidates import PLANS, needs_gpu
from benchmarks.gpu.subject import Subject
from clients.photos import photos_in
from server.engines.base import Engine, Pending

BATCH, CPU_BATCH, NVJPEG_BATCH = 256, 4, 64
Crop = NDArray[np.uint8]
Row = dict[str, Any]


def decoded(it: Subject, folder: Path) -> Row:
    """Decoded, reduced, cut, and thrown away."""
    return _rate(it, folder, lambda crops: sum(1 for _ in crops))


def classified(it: Subject, folder: Path, runtime: str, precision: str) -> Row:
    """Copies from and to the host too; a batch is gathered while another runs."""
    batch = BATCH if it.cuda else CPU_BATCH
    engine = _engine(it, runtime, precision, batch)

    def answered(crops: Iterator[Crop]) -> int:
        under_way, count = deque[Pending](), 0
        while some := list(islice(crops, batch)):
            under_way.append(engine.begin(some))
            if len(under_way) == engine.depth:
                count += len(under_way.popleft()())
        return count + sum(len(pending()) for pending in under_way)

    try:
        answered(iter([it.crops[0]] * batch))  # warms up
        return _rate(it, folder, answered)
    finally:
        engine.close()


def by_nvjpeg(it: Subject, folder: Path) -> Row:
    """Decoded by the GPU to the size that the photos have, and no further."""
    needs_gpu(it, "nvJPEG")
    from torchvision.io import ImageReadMode, decode_jpeg  # type: ignore[import-not-found]

    data = cycle([torch.frombuffer(bytearray(d), dtype=torch.uint8) for d in _jpegs(folder)])
    begun, count = perf_counter(), -NVJPEG_BATCH  # the first ones warm up
    while (took := perf_counter() - begun) < it.settings.seconds or count <= 0:
        photos = list(islice(data, NVJPEG_BATCH))
        decode_jpeg(photos, mode=ImageReadMode.RGB, device=it.device)
        torch.cuda.synchronize()
        begun = perf_counter() if count < 0 else begun
        count += NVJPEG_BATCH
    return {"per_s": count / took}


def _engine(it: Subject, runtime: str, precision: str, batch: int) -> Engine:
    if runtime == "onnxruntime-cpu":
        from server.engines.ort import OrtEngine

        return OrtEngine(it.onnx, it.bundle.manifest, 1)
    from gpu.open import open_on_gpu

    number = torch.cuda.current_device()
    return open_on_gpu(runtime, it.onnx, precision, number, batch, it.side, it.classes, PLANS)


def _rate(it: Subject, folder: Path, use: Callable[[Iterator[Crop]], int]) -> Row:
    photos, spec = cycle(_jpegs(folder)), it.bundle.manifest.preprocess
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:

        def crops() -> Iterator[Crop]:
            """Enough under way for no thread to wait, and few enough for memory."""
            waiting = deque(pool.submit(preprocess, next(photos), spec) for _ in range(2 * BATCH))
            while waiting:
                yield waiting.popleft().result().crop
                if perf_counter() - begun < it.settings.seconds:
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
