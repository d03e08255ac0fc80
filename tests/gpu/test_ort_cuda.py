"""ONNX Runtime on a real GPU: both providers in a BucketEngine, as in the server."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from alexnet.bundle import Bundle
from alexnet.golden import Golden
from gpu.buckets import BucketEngine
from tests.paths import STARTER

pytest.importorskip("cuda.bindings.runtime", reason="make test-gpu has it")
pytest.importorskip("alexnet.onnx_runtime", reason="make test-gpu has it")

from alexnet.onnx_runtime import onnxruntime
from gpu.cuda import CudaDevice
from gpu.programs.ort_cuda import PRECISIONS, OrtProgram, Provider, ProviderError, cuda, tensorrt
from gpu.typed import typed

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
        reason="this ONNX Runtime is the one for CPUs",
    ),
]
SIZES = (1, 4, 32)
ALL = [(name, precision) for name, precisions in PRECISIONS.items() for precision in precisions]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(STARTER)


def provider(name: str, precision: str, folder: Path) -> Provider:
    if name == "cuda":
        return cuda(precision)
    pytest.importorskip("tensorrt_libs", reason="needs TensorRT 10")
    return tensorrt(precision, SIZES, 224, folder / precision)


@contextmanager
def engine(bundle: Bundle, provider: Provider, number: int = 0) -> Iterator[BucketEngine]:
    onnx = typed(bundle.files[bundle.manifest.artifacts[0].file], provider.precision)
    device = CudaDevice(number)
    program = OrtProgram(device, onnx, provider)
    running = BucketEngine(device, program, SIZES, 224, bundle.manifest.model.classes)
    try:
        yield running
    finally:
        running.close()


@pytest.mark.parametrize(("name", "precision"), ALL)
def test_the_golden_batch_at_every_size_with_a_cuda_graph(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, precision: str
) -> None:
    (artifact,), golden = bundle.manifest.artifacts, bundle.golden
    tolerance = artifact.tolerance + {"bf16": 0.04, "fp8": 0.1}.get(precision, 0.02)
    with engine(bundle, provider(name, precision, tmp_path)) as running:
        assert running.name == f"onnxruntime-{name}-{precision}:0"
        for start, count in ((0, 4), (0, 3), (1, 1)):  # full, padded, the smallest
            part = Golden(golden.crops[start:][:count], golden.logits[start:][:count])
            part.check(running.run(part.crops), tolerance)
        for logits in np.split(running.run(np.concatenate([golden.crops] * 8)), 8):
            golden.check(logits, tolerance)
    assert "without a CUDA graph" not in caplog.text


@pytest.mark.parametrize("name", PRECISIONS)
def test_another_thread_gets_the_same_logits(bundle: Bundle, tmp_path: Path, name: str) -> None:
    crops = bundle.golden.crops
    with engine(bundle, provider(name, "fp16", tmp_path)) as running:
        here = running.run(crops)
        with ThreadPoolExecutor(1) as threads:
            np.testing.assert_array_equal(threads.submit(running.run, crops).result(), here)


@pytest.mark.parametrize("name", PRECISIONS)
def test_two_batches_in_flight_do_not_affect_each_other(
    bundle: Bundle, tmp_path: Path, name: str
) -> None:
    def batch(size: int, first: int) -> NDArray[np.uint8]:
        return np.resize(np.roll(bundle.golden.crops, first, axis=0), (size, 224, 224, 3))

    with engine(bundle, provider(name, "fp32", tmp_path)) as running:
        for one, other in product(SIZES, SIZES):
            alone = [running.run(batch(one, 0)), running.run(batch(other, 1))]
            pending = [running.begin(list(batch(one, 0))), running.begin(list(batch(other, 1)))]
            for wait, wanted in zip(pending, alone, strict=True):
                np.testing.assert_allclose(wait(), wanted, atol=1e-3 * np.abs(wanted).max())


def test_the_second_start_uses_the_cached_tensorrt_engine(bundle: Bundle, tmp_path: Path) -> None:
    wanted = provider("tensorrt", "fp16", tmp_path)
    with engine(bundle, wanted) as running:
        first = running.run(bundle.golden.crops)
    (built,) = tmp_path.rglob("*.engine")
    written = built.stat().st_mtime_ns
    with engine(bundle, wanted) as running:
        np.testing.assert_array_equal(running.run(bundle.golden.crops), first)
    assert built.stat().st_mtime_ns == written
    assert list(tmp_path.iterdir()) == [wanted.engines]


def test_a_truncated_engine_is_one_clear_error(bundle: Bundle, tmp_path: Path) -> None:
    wanted = provider("tensorrt", "fp16", tmp_path)
    with engine(bundle, wanted):
        pass
    (built,) = tmp_path.rglob("*.engine")
    built.write_bytes(built.read_bytes()[:1000])
    with pytest.raises(ProviderError, match="deserialize"), engine(bundle, wanted):
        pass
