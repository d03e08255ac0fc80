"""The typed graphs compute the same as the artifact, in the types for TensorRT."""

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator
from torch import nn

from alexnet.bundle import Bundle
from alexnet.labels import Labels
from alexnet.onnx_runtime import onnxruntime
from export.precision import calibrate, to_int8
from export.to_onnx import to_onnx
from gpu.typed import PRECISIONS, float_graph, typed
from tests.paths import STARTER
from tests.photos import draw
from training.importers import IMAGENET_MEAN, IMAGENET_STD, TrainedModel
from training.network import ARCHITECTURES, AlexNet

pytest.importorskip("tensorrt_rtx", reason="make test-gpu-build has it")

# Root mean square error against the float graph, relative to the differences between photos. For
# random weights, whose logits are all similar; the starter is held to its own tolerance.
ERRORS = {"fp32": 1e-5, "fp16": 0.01, "bf16": 0.05, "int8": 0.15, "fp8": 0.5}


def run(data: bytes, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Without optimisations: ONNX Runtime's round float16 biases of Q/DQ layers to zero."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run(["logits"], {"images": crops})[0]
    return logits


def evaluate(data: bytes, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """By the ONNX reference implementation, which supports bfloat16 but is slow."""
    logits: NDArray[np.float32] = ReferenceEvaluator(onnx.load_from_string(data)).run(
        None, {"images": crops}
    )[0]
    return logits


@pytest.fixture(params=["alexnet", "alexnet2012", "alexnet2012-paper", "alexnet-caffe"])
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> TrainedModel:
    """64 hidden units; pixels of 0-255 where there are norms, so that squares exceed 65504."""
    monkeypatch.setattr("training.network.HIDDEN", 64)
    torch.manual_seed(0)
    network = AlexNet(100, request.param, dropout=0.0).eval()
    for layer in network.layers:
        nn.init.kaiming_normal_(layer.weight)
        nn.init.normal_(layer.bias, std=0.1)  # type: ignore[arg-type]
    std = IMAGENET_STD if request.param == "alexnet" else (0.2, 0.2, 0.2)
    crop = ARCHITECTURES[request.param].crop
    return TrainedModel(network, IMAGENET_MEAN, std, Labels.imagenet(), 1000, {}, "0" * 64, crop)


@pytest.fixture
def crops(model: TrainedModel) -> NDArray[np.uint8]:
    return np.stack([np.asarray(draw(model.crop, model.crop, seed=seed)) for seed in range(4)])


@pytest.fixture
def int8(model: TrainedModel, crops: NDArray[np.uint8]) -> bytes:
    return to_int8(model, model.crop, calibrate(model, crops))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_of_every_architecture_computes_the_float_graph(
    precision: str, int8: bytes, crops: NDArray[np.uint8]
) -> None:
    wanted = run(float_graph(int8).SerializeToString(), crops)
    narrow = typed(int8, precision)
    onnx.checker.check_model(onnx.load_from_string(narrow), full_check=True)
    count = 1 if precision == "bf16" else len(crops)
    logits = (evaluate if precision == "bf16" else run)(narrow, crops[:count])
    assert logits.dtype == np.float32
    error = np.sqrt(np.mean((logits - wanted[:count]) ** 2)) / wanted.std(0).mean()
    assert error < ERRORS[precision]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_float_artifact_is_typed_with_its_own_normalisation(
    precision: str, model: TrainedModel, crops: NDArray[np.uint8]
) -> None:
    artifact = to_onnx(model, model.crop)
    wanted, logits = run(artifact, crops), run(typed(artifact, precision), crops)
    assert np.abs(logits - wanted).max() < 0.01 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("precision", "loss"), [("fp32", 0), ("fp16", 0), ("int8", 0), ("fp8", 0.1)]
)
def test_the_starter_stays_within_its_tolerance(precision: str, loss: float) -> None:
    bundle = Bundle.open(STARTER)
    (artifact,) = bundle.manifest.artifacts
    logits = run(typed(bundle.files[artifact.file], precision), bundle.golden.crops)
    bundle.golden.check(logits, artifact.tolerance + loss)


@pytest.mark.parametrize("model", ["alexnet2012"], indirect=True)
@pytest.mark.parametrize(
    ("precision", "stored", "conv1"),
    [
        ("fp16", TensorProto.FLOAT16, TensorProto.FLOAT16),
        ("bf16", TensorProto.BFLOAT16, TensorProto.BFLOAT16),
        ("int8", TensorProto.INT8, TensorProto.INT8),
        ("fp8", TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT16),
    ],
)
def test_layers_are_in_the_precision_and_norms_in_float32(
    precision: str, stored: int, conv1: int, int8: bytes
) -> None:
    graph = onnx.load_from_string(typed(int8, precision)).graph
    weights = [i for i in graph.initializer if i.name.startswith("w") and len(i.dims) > 1]
    assert [i.data_type for i in weights] == [conv1] + [stored] * 7
    scaled = {"int8": 8, "fp8": 7}.get(precision, 0)
    operations = Counter(node.op_type for node in graph.node)
    assert operations["QuantizeLinear"] == scaled
    assert operations["DequantizeLinear"] == 2 * scaled
    kinds = {i.name: i.data_type for i in graph.initializer}
    norms = [node for node in graph.node if node.op_type in ("MatMul", "Add")]
    assert {kinds[name] for node in norms for name in node.input if name in kinds} == {
        TensorProto.FLOAT
    }
    assert not {TensorProto.UINT8, TensorProto.INT32} & set(kinds.values())


@pytest.mark.parametrize("model", ["alexnet"], indirect=True)
def test_int8_scales_are_positive_and_zero_points_zero(int8: bytes) -> None:
    """TensorRT refuses any zero point but 0."""
    graph = onnx.load_from_string(typed(int8, "int8")).graph
    values = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert (values[node.input[1]] > 0).all()
            assert all(not values[zero].any() for zero in node.input[2:])
    pixels = next(node for node in graph.node if node.op_type == "QuantizeLinear")
    assert values[pixels.input[1]] == 1 / 64  # pixel - 128 exactly


@pytest.mark.parametrize("model", ["alexnet"], indirect=True)
@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_a_float_artifact_has_no_scales(precision: str, model: TrainedModel) -> None:
    with pytest.raises(ValueError, match=f"{precision} needs the scales of an int8 artifact"):
        typed(to_onnx(model, model.crop), precision)


def test_an_unknown_precision_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'fp4'; there are fp32, fp16, bf16, int8, fp8"):
        typed(b"", "fp4")
