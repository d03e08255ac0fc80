"""The network with our kernels: their references on the CPU, and compiled for a GPU."""

import pytest

pytest.importorskip("triton", reason="make test-gpu-build has it")

import numpy as np
import torch

from alexnet.bundle import Bundle
from benchmarks.gpu.resources import resources
from export.to_onnx import to_onnx
from gpu.fused import FusedNetwork
from gpu.network import Network
from tests.networks import PLAIN, photos, random_model
from tests.paths import STARTER

# Kernels of each network: normalisation, three poolings, and the norms that are not fused.
KERNELS = {
    "alexnet": ["in_blocks", "response", "response", "response"],
    "alexnet-small": ["in_blocks", "response", "response", "response"],
    "alexnet2012": ["in_blocks", "response", "forward", "response"],
    "alexnet2012-paper": ["in_blocks", "response", "response", "response"],
    "alexnet-caffe": ["in_blocks", "response", "response", "response"],
}


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.network.HIDDEN", 64)


@pytest.mark.parametrize("arch", PLAIN)
@pytest.mark.parametrize("image", [False, True])
def test_it_computes_the_same_as_the_plain_network(arch: str, image: bool) -> None:
    model = random_model(arch, image=image)
    graph, crops = to_onnx(model, model.crop), torch.from_numpy(photos(model.crop, count=2))
    wanted = Network(graph, torch.float64)(crops)
    largest = float(wanted.abs().max())
    for dtype, limit in {torch.float64: 1e-12, torch.float16: 4e-3, torch.bfloat16: 3e-2}.items():
        got = FusedNetwork(graph, dtype)(crops).double()
        assert float((got - wanted).abs().max()) < limit * largest, dtype


@pytest.mark.parametrize("arch", PLAIN)
def test_every_kernel_gets_valid_arguments_and_compiles_for_hopper(arch: str) -> None:
    model = random_model(arch)
    network = FusedNetwork(to_onnx(model, model.crop), torch.bfloat16, "meta", weights=torch.int8)
    images = torch.empty((2, model.crop, model.crop, 3), dtype=torch.uint8, device="meta")
    found = resources(lambda: network(images), 90)
    assert [r.kernel for r in found] == KERNELS[arch] + ["part", "finish"] * 3
    assert not any(r.spilled for r in found)


def test_batches_too_large_for_the_kernel_use_a_plain_product() -> None:
    network = FusedNetwork(to_onnx(random_model("alexnet"), 224), torch.float16, "meta", torch.int8)
    images = torch.empty((65, 224, 224, 3), dtype=torch.uint8, device="meta")
    assert [r.kernel for r in resources(lambda: network(images), 90)] == KERNELS["alexnet"]


@pytest.mark.parametrize(("weights", "limit"), [(torch.int8, 0.03), (torch.float8_e4m3fn, 0.1)])
def test_weights_of_8_bits_give_the_same_logits_in_any_batch(
    weights: torch.dtype, limit: float
) -> None:
    model = random_model("alexnet")
    graph, crops = to_onnx(model, 224), torch.from_numpy(photos(224, count=1))
    exact = Network(graph, torch.float64)(crops)
    network = FusedNetwork(graph, torch.float16, weights=weights)
    alone, batched = network(crops), network(crops.expand(65, -1, -1, -1))
    largest = float(exact.abs().max())
    assert 1e-3 * largest < float((alone - exact).abs().max()) < limit * largest
    assert float((batched - alone).abs().max()) < 2e-3 * largest


@pytest.mark.parametrize("weights", [None, torch.int8])
def test_the_starter_passes_its_golden_batch(weights: torch.dtype | None) -> None:
    bundle = Bundle.open(STARTER)
    (artifact,) = bundle.manifest.artifacts
    network = FusedNetwork(bundle.files[artifact.file], torch.float16, weights=weights)
    logits = network(torch.from_numpy(bundle.golden.crops)).numpy().astype(np.float32)
    bundle.golden.check(logits, artifact.tolerance)
