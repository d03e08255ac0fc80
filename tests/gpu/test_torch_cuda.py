"""The torch engine on a real GPU in a BucketEngine, as in the server."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from alexnet.bundle import Bundle
from alexnet.golden import Golden
from export.to_onnx import to_onnx
from gpu.buckets import BucketEngine
from gpu.network import Network
from tests.networks import PLAIN, photos, random_model
from tests.paths import STARTER

pytest.importorskip("triton", reason="make test-gpu has it")

from gpu.cuda import CudaDevice
from gpu.fused import FusedNetwork
from gpu.programs.torch_cuda import DTYPES, TorchCudaProgram

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use"),
]
SIZES = (1, 4, 32)


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.network.HIDDEN", 64)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(STARTER)


def starter(bundle: Bundle) -> bytes:
    return bundle.files[bundle.manifest.artifacts[0].file]


@contextmanager
def engine(
    bundle: Bundle, precision: str, network: Callable[..., Network] = Network
) -> Iterator[BucketEngine]:
    device, classes = CudaDevice(0), bundle.manifest.model.classes
    program = TorchCudaProgram(starter(bundle), precision, device, 224, classes, network)
    engine = BucketEngine(device, program, SIZES, 224, classes)
    yield engine
    engine.close()


@pytest.mark.parametrize(
    "network",
    [
        Network,
        FusedNetwork,
        partial(FusedNetwork, weights=torch.int8),
        partial(FusedNetwork, weights=torch.float8_e4m3fn),
    ],
    ids=["plain", "fused", "int8-weights", "fp8-weights"],
)
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_golden_batch_at_every_size(
    bundle: Bundle, precision: str, network: Callable[..., Network]
) -> None:
    (artifact,) = bundle.manifest.artifacts
    golden = bundle.golden
    with engine(bundle, precision, network) as running:
        for start, count in ((0, 4), (0, 3), (1, 1)):  # full, padded, the smallest
            part = Golden(golden.crops[start:][:count], golden.logits[start:][:count])
            part.check(running.run(part.crops), artifact.tolerance)
        for logits in np.split(running.run(np.concatenate([golden.crops] * 8)), 8):
            golden.check(logits, artifact.tolerance)


def test_two_batches_in_flight_do_not_affect_each_other(bundle: Bundle) -> None:
    def batch(size: int, first: int) -> NDArray[np.uint8]:
        return np.resize(np.roll(bundle.golden.crops, first, axis=0), (size, 224, 224, 3))

    with engine(bundle, "fp32") as running:
        for one, other in product(SIZES, SIZES):
            alone = [running.run(batch(one, 0)), running.run(batch(other, 1))]
            pending = [running.begin(list(batch(one, 0))), running.begin(list(batch(other, 1)))]
            for wait, wanted in zip(pending, alone, strict=True):
                np.testing.assert_allclose(wait(), wanted, atol=1e-3 * np.abs(wanted).max())


def test_closed_engines_free_their_memory(bundle: Bundle) -> None:
    used: list[int] = []
    for _ in range(3):
        with engine(bundle, "fp16") as running:
            running.run(bundle.golden.crops)
        used.append(torch.cuda.memory_allocated(0))
    # The weights are 122 MB. cuBLAS keeps up to 32 MiB for each stream that it was ever used on.
    assert used[2] - used[0] < 80 << 20


@pytest.mark.parametrize("arch", PLAIN)
@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("network", [Network, FusedNetwork])
def test_the_gpu_computes_nearly_the_same_as_float64(
    arch: str, precision: str, network: Callable[..., Network]
) -> None:
    model = random_model(arch)
    graph, crops = to_onnx(model, model.crop), torch.from_numpy(photos(model.crop))
    exact = Network(graph, torch.float64)(crops)
    got = network(graph, DTYPES[precision], "cuda:0")(crops.cuda()).cpu().double()
    apart = {"fp32": 4e-3, "fp16": 4e-3, "bf16": 3e-2}[precision]  # fp32: convolutions in TF32
    assert float((got - exact).abs().max()) < apart * float(exact.abs().max())
