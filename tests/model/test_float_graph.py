"""The float graph of every exported artifact: the same values, and only floats."""

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import nn

from alexnet.bundle import Bundle
from alexnet.labels import Labels
from alexnet.onnx_runtime import onnxruntime
from export.parity import predictor
from export.precision import calibrate, to_int8
from export.to_onnx import to_onnx
from gpu.typed import float_graph
from tests.paths import STARTER
from tests.photos import draw
from training.importers import IMAGENET_MEAN, IMAGENET_STD, TrainedModel
from training.network import ARCHITECTURES, AlexNet

pytestmark = pytest.mark.usefixtures("narrow")


@pytest.fixture(params=["alexnet", "alexnet2012", "alexnet2012-paper", "alexnet-caffe"])
def model(request: pytest.FixtureRequest, narrow: None) -> TrainedModel:
    torch.manual_seed(0)
    network = AlexNet(100, request.param, dropout=0.0).eval()
    for layer in network.layers:
        nn.init.kaiming_normal_(layer.weight)
        nn.init.normal_(layer.bias, std=0.1)  # type: ignore[arg-type]
    std = IMAGENET_STD if request.param == "alexnet" else (1.0, 1.0, 1.0)
    crop = ARCHITECTURES[request.param].crop
    return TrainedModel(network, IMAGENET_MEAN, std, Labels.imagenet(), 1000, {}, "0" * 64, crop)


def photos(side: int) -> NDArray[np.uint8]:
    return np.stack([np.asarray(draw(side, side, seed=seed)) for seed in range(4)])


def dequantised(data: bytes, names: list[str]) -> list[NDArray[np.float32]]:
    """Constants stored as integers, as ONNX Runtime dequantises them."""
    graph = onnx.load_from_string(data)
    del graph.graph.output[:]
    graph.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    side = session.get_inputs()[0].shape[1]
    outputs: list[NDArray[np.float32]] = session.run(
        names, {"images": np.zeros((1, side, side, 3), np.uint8)}
    )
    return outputs


def test_a_float_artifact_is_its_own_float_graph(model: TrainedModel) -> None:
    artifact, crops = to_onnx(model, model.crop), photos(model.crop)
    floats = float_graph(artifact)
    onnx.checker.check_model(floats, full_check=True)
    np.testing.assert_array_equal(
        predictor(floats.SerializeToString())(crops), predictor(artifact)(crops)
    )


def test_int8_weights_become_those_that_onnx_runtime_uses(model: TrainedModel) -> None:
    crops = photos(model.crop)
    artifact = to_int8(model, model.crop, calibrate(model, crops))
    floats = float_graph(artifact)
    weights = {i.name: numpy_helper.to_array(i) for i in floats.graph.initializer}
    names = [f"{kind}{layer}" for layer in range(8) for kind in "wb"]
    for name, wanted in zip(names, dequantised(artifact, names), strict=True):
        np.testing.assert_array_equal(weights[name], wanted, name)


def test_no_integers_are_left_of_int8(model: TrainedModel) -> None:
    crops = photos(model.crop)
    floats = float_graph(to_int8(model, model.crop, calibrate(model, crops)))
    onnx.checker.check_model(floats, full_check=True)
    operations = [node.op_type for node in floats.graph.node]
    assert operations[:5] == ["Cast", "Sub", "Mul", "Transpose", "Conv"]
    assert not {"QuantizeLinear", "DequantizeLinear"} & set(operations)
    kinds = {i.data_type for i in floats.graph.initializer if i.name != "flat"}
    assert kinds == {onnx.TensorProto.FLOAT}


def test_the_float_graph_of_int8_computes_what_torch_does(model: TrainedModel) -> None:
    crops = photos(model.crop)
    with torch.inference_mode():
        wanted = model.deployable(torch.from_numpy(crops)).numpy()
    artifact = to_int8(model, model.crop, calibrate(model, crops))
    logits = predictor(float_graph(artifact).SerializeToString())(crops)
    # Weights have 8 bits, and conv1 is padded with grey instead of the mean
    assert np.sqrt(np.mean((logits - wanted) ** 2)) < 0.15 * wanted.std(0).mean()


def test_invalid_onnx_is_reported_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="cannot be read as an ONNX graph"):
        float_graph(b"no graph at all")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8", "fp8"])
def test_the_starter_has_a_source_for_every_precision(precision: str) -> None:
    artifact = Bundle.open(STARTER).manifest.source(precision)
    assert artifact is not None
    assert artifact.precision == "int8"
