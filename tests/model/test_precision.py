"""The int8 graph of every plain architecture against torch, and the parity check."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from alexnet.labels import Labels
from alexnet.spec import ORT_EXACT_INT8
from export.parity import ParityError, compare, predictor
from export.precision import calibrate, to_int8
from tests.photos import draw
from training.importers import IMAGENET_MEAN, IMAGENET_STD, TrainedModel
from training.network import ARCHITECTURES, AlexNet

PLAIN = ["alexnet", "alexnet2012", "alexnet2012-paper", "alexnet-caffe"]


@pytest.fixture(params=PLAIN)
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> TrainedModel:
    """Few hidden units, weights that preserve the scale, a normalisation to be folded.

    Networks with norms take pixels of 0-255, so that the base of the first norm far exceeds k.
    """
    monkeypatch.setattr("training.network.HIDDEN", 64)
    arch: str = request.param
    torch.manual_seed(0)
    network = AlexNet(100, arch, dropout=0.0).eval()
    for layer in network.layers:
        nn.init.kaiming_normal_(layer.weight)
        nn.init.normal_(layer.bias, std=0.1)  # type: ignore[arg-type]
    std = IMAGENET_STD if arch == "alexnet" else (1.0, 1.0, 1.0)
    crop = ARCHITECTURES[arch].crop
    return TrainedModel(network, IMAGENET_MEAN, std, Labels.imagenet(), 1000, {}, "0" * 64, crop)


@pytest.fixture
def crops(model: TrainedModel) -> NDArray[np.uint8]:
    side = model.crop
    return np.stack([np.asarray(draw(side, side, seed=seed)) for seed in range(8)])


def reference(model: TrainedModel, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.inference_mode():
        logits: NDArray[np.float32] = model.deployable(torch.from_numpy(crops)).numpy()
    return logits


def test_int8_stays_close_with_the_normalisation_folded_away(
    model: TrainedModel, crops: NDArray[np.uint8]
) -> None:
    wanted = reference(model, crops)
    got = predictor(to_int8(model, model.crop, calibrate(model, crops)))(crops)
    # Relative to the differences between photos: logits of random weights are all similar.
    error = np.sqrt(np.mean((got - wanted) ** 2)) / wanted.std(0).mean()
    assert error < 0.15


def test_every_layer_with_weights_runs_in_integers(
    model: TrainedModel, crops: NDArray[np.uint8], tmp_path: Path
) -> None:
    """One layer left in float by ONNX Runtime would halve the speed and fail no other test."""
    optimised = tmp_path / "optimised.onnx"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(optimised)
    options.add_session_config_entry(*ORT_EXACT_INT8)
    options.log_severity_level = 3
    int8 = to_int8(model, model.crop, calibrate(model, crops[:1]))
    onnxruntime.InferenceSession(int8, options, providers=["CPUExecutionProvider"])
    kernels = Counter(node.op_type for node in onnx.load(optimised).graph.node)
    assert (kernels["QLinearConv"], kernels["QGemm"]) == (5, 3)
    assert sum(n for op, n in kernels.items() if op.endswith(("Conv", "Gemm"))) == 5 + 3
    assert kernels["MaxPool"] == 0  # each is channels-last, too: 30 times faster
    if model.network.arch == "alexnet":
        assert not kernels.keys() & {"QuantizeLinear", "DequantizeLinear"}


@pytest.mark.parametrize("model", ["alexnet2012"], indirect=True)
def test_a_layer_without_a_relu_is_calibrated_on_its_negative_values_too(
    model: TrainedModel, crops: NDArray[np.uint8]
) -> None:
    conv1 = model.network.layers[0]
    nn.init.zeros_(conv1.weight)
    nn.init.constant_(conv1.bias, -1000.0)  # type: ignore[arg-type]
    assert calibrate(model, crops[:1]).scales[0] * 127 == pytest.approx(1000, rel=0.01)


@pytest.mark.parametrize("model", ["alexnet"], indirect=True)
def test_parity_refuses_another_network(model: TrainedModel, crops: NDArray[np.uint8]) -> None:
    wanted = reference(model, crops)
    assert compare("fp32", wanted, wanted).agreement == 1
    with pytest.raises(ParityError, match="int8 is refused"):
        compare("int8", wanted, np.roll(wanted, 1, axis=1))
    with pytest.raises(ParityError, match="not finite"):
        compare("fp32", wanted, np.full_like(wanted, np.nan))
