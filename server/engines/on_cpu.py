"""The engines of the CPU, and which of them is the fastest on this one."""

import logging
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from alexnet.bundle import Bundle
from alexnet.int8_kernels import saturates
from server.engines.base import Engine
from server.engines.ort import OrtEngine

log = logging.getLogger(__name__)

RUNS = 3
BUSY = 8
"""A batch under some load; under much it is the largest."""
CLEARLY = 1.1
"""So many times as fast as the first an engine has to be: a busy machine's times wander."""

_winners: dict[tuple[object, ...], str] = {}
"""What was measured holds for the life of the process: beside requests it would be wrong."""


def open_on_cpu(
    names: Sequence[str],
    onnx: bytes,
    bundle: Bundle,
    precision: str,
    tolerance: float,
    threads: int,
    batch: int,
) -> Engine:
    """The first, unless another is clearly faster in batches of up to `batch` and computes the
    golden batch as well. What keeps another from being used is logged."""
    preprocess, classes = bundle.manifest.preprocess, bundle.manifest.model.classes
    race = (*names, precision, preprocess.crop, classes, len(onnx), threads, batch)

    def open_(name: str) -> Engine:
        return OPENERS[name](onnx, bundle, precision, tolerance, threads)

    def proven(name: str) -> Engine | None:
        try:
            engine = open_(name)
            bundle.golden.check(engine.run(bundle.golden.crops), tolerance)
            return engine
        except Exception as error:  # each runtime has its own, without a common base
            log.warning("%s is not used: %s", name, error)
            return None

    if len(names) == 1 or race in _winners:
        winner = _winners.get(race, names[0])
        # It won with other weights.
        return (proven(winner) if winner != names[0] else None) or open_(names[0])
    sizes = sorted({min(BUSY, batch), batch})
    engines = [open_(names[0]), *filter(None, map(proven, names[1:]))]
    rates = {engine.name: _rate(engine, bundle.golden.crops, sizes) for engine in engines}
    best = max(engines, key=lambda engine: rates[engine.name])
    if rates[best.name] < CLEARLY * rates[names[0]]:
        best = engines[0]
    said = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    batches = " and ".join(map(str, sizes))
    log.info("engine %s: photos/s in batches of %s: %s", best.name, batches, said)
    for engine in engines:
        if engine is not best:
            engine.close()
    _winners[race] = best.name
    return best


def _rate(engine: Engine, crops: NDArray[np.uint8], sizes: Sequence[int]) -> float:
    """Photos a second; each size counts the same."""
    s = sum(_least_s(engine, np.resize(crops, (n, *crops.shape[1:]))) / n for n in sizes)
    return len(sizes) / s


def _least_s(engine: Engine, crops: NDArray[np.uint8]) -> float:
    engine.run(crops)  # the first is cold
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        engine.run(crops)
        times.append(time.perf_counter() - start)
    return min(times)


def _ort(onnx: bytes, bundle: Bundle, precision: str, tolerance: float, threads: int) -> OrtEngine:
    if precision == "int8" and saturates():
        try:
            return _narrow(onnx, bundle, tolerance, threads)
        except ValueError as error:
            log.info("this CPU has no VNNI, and int8 is half as slow again: %s", error)
    return OrtEngine(onnx, bundle.manifest, threads)


def _narrow(onnx: bytes, bundle: Bundle, tolerance: float, threads: int) -> OrtEngine:
    """Raises ValueError, also when it computes something else."""
    engine = OrtEngine(onnx, bundle.manifest, threads, narrow=True)
    try:
        bundle.golden.check(engine.run(bundle.golden.crops), tolerance)
    except ValueError:
        engine.close()
        raise
    log.info("this CPU has no VNNI: the first layer's weights are taken in 7 bits")
    return engine


def _openvino(
    onnx: bytes, bundle: Bundle, precision: str, tolerance: float, threads: int
) -> Engine:
    from server.engines.openvino import OpenVinoEngine  # where it is installed

    return OpenVinoEngine(onnx, bundle.manifest, precision, threads)


OPENERS: dict[str, Callable[[bytes, Bundle, str, float, int], Engine]] = {
    "onnxruntime-cpu": _ort,
    "openvino-cpu": _openvino,
}
