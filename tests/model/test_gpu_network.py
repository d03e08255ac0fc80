"""The exported graph run by torch, against ONNX Runtime and the golden batch."""

import weakref

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from alexnet.bundle import Bundle
from export.parity import predictor
from export.precision import calibrate, to_int8
from export.to_onnx import to_onnx
from gpu.network import Network, Step
from gpu.typed import float_graph
from tests.networks import PLAIN, photos, random_model
from tests.paths import STARTER

# Largest difference from ONNX Runtime's logits in float32, relative to the largest logit.
TOLERANCES = {torch.float64: 4e-6, torch.float32: 8e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}

pytestmark = pytest.mark.usefixtures("narrow")


def logits(network: Network, crops: NDArray[np.uint8]) -> NDArray[np.float64]:
    return network(torch.from_numpy(crops)).double().numpy()


@pytest.mark.parametrize("arch", PLAIN)
@pytest.mark.parametrize("image", [False, True])
def test_every_network_gives_the_logits_of_onnx_runtime(arch: str, image: bool) -> None:
    model = random_model(arch, image=image)
    graph, crops = to_onnx(model, model.crop), photos(model.crop, count=2)
    wanted = predictor(graph)(crops)
    for dtype, tolerance in TOLERANCES.items():
        got = logits(Network(graph, dtype), crops)
        assert np.abs(got - wanted).max() < tolerance * np.abs(wanted).max(), dtype


def test_logits_are_float32_except_in_float64() -> None:
    model = random_model("alexnet")
    graph, crops = to_onnx(model, 224), torch.from_numpy(photos(224, count=1))
    types = {dtype: Network(graph, dtype)(crops).dtype for dtype in TOLERANCES}
    assert types.pop(torch.float64) == torch.float64
    assert set(types.values()) == {torch.float32}


def test_a_photo_gets_the_same_logits_alone_and_in_a_batch() -> None:
    model = random_model("alexnet2012")
    network, crops = Network(to_onnx(model, 224), torch.float64), photos(224, count=3)
    together = logits(network, crops)
    np.testing.assert_allclose(logits(network, crops[1:2]), together[1:2], rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_int8_starter_in_floats_is_the_trained_network(dtype: torch.dtype) -> None:
    bundle = Bundle.open(STARTER)
    (artifact,) = bundle.manifest.artifacts
    network = Network(bundle.files[artifact.file], dtype)
    got = logits(network, bundle.golden.crops).astype(np.float32)
    bundle.golden.check(got, artifact.tolerance)


@pytest.mark.parametrize("arch", PLAIN)
def test_int8_with_a_mean_image_gives_the_logits_of_onnx_runtime(arch: str) -> None:
    model = random_model(arch, image=True)
    crops = photos(model.crop, count=2)
    graph = to_int8(model, model.crop, calibrate(model, crops))
    wanted = predictor(float_graph(graph).SerializeToString())(crops)
    got = logits(Network(graph, torch.float64), crops)
    assert np.abs(got - wanted).max() < 8e-6 * np.abs(wanted).max()


def test_activations_are_channels_last_and_freed_after_their_last_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = Network(to_onnx(random_model("alexnet"), 224), torch.float32)
    convolve = F.conv2d

    def convolution(x: Tensor, weight: Tensor, *rest: object) -> Tensor:
        assert weight.is_contiguous(memory_format=torch.channels_last)
        return convolve(x, weight, *rest)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(F, "conv2d", convolution)
    seen: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def watch(step: Step) -> Step:
        def run(x: Tensor) -> Tensor:
            output = step(x)
            assert output.ndim == 2 or output[0].permute(1, 2, 0).is_contiguous()
            alive.append(sum(value() is not None for value in seen))
            seen.append(weakref.ref(output))
            return output

        return run

    network._steps = [watch(step) for step in network._steps]
    logits(network, photos(224, count=1))
    assert len(alive) == 9, "normalisation, and eight layers"
    assert max(alive) == 1, "only the input of a step is alive while it runs"


@pytest.mark.parametrize("padding", [[1, 2, 3, 2], [2, 2, 3, 3]])
def test_unknown_padding_is_refused(padding: list[int]) -> None:
    graph = onnx.load_from_string(to_onnx(random_model("alexnet"), 224))
    conv2 = [node for node in graph.graph.node if node.op_type == "Conv"][1]
    (pads,) = (a for a in conv2.attribute if a.name == "pads")
    pads.ints[:] = padding
    with pytest.raises(ValueError, match="does not know what Conv is for in node Conv_"):
        Network(graph.SerializeToString(), torch.float32)


def test_a_graph_that_is_no_chain_is_refused() -> None:
    graph = onnx.load_from_string(to_onnx(random_model("alexnet"), 224))
    conv4, conv5 = [node for node in graph.graph.node if node.op_type == "Conv"][3:]
    conv5.input[0] = conv4.input[0]
    with pytest.raises(ValueError, match="does not know what Conv is for in node Conv_"):
        Network(graph.SerializeToString(), torch.float32)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("Relu", "Sigmoid", r"does not know what Sigmoid is for in node Relu_5: it runs the gr"),
        ("Gemm", "MatMul", r"does not know what Reshape is for in node Reshape_"),
    ],
)
def test_a_graph_that_is_no_alexnet_is_refused(old: str, new: str, sentence: str) -> None:
    graph = onnx.load_from_string(to_onnx(random_model("alexnet"), 224))
    for node in graph.graph.node:
        node.op_type = new if node.op_type == old else node.op_type
    with pytest.raises(ValueError, match=sentence):
        Network(graph.SerializeToString(), torch.float32)
