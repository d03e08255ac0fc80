"""The ONNX graphs against torch, on networks small enough in width to be quick."""

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

import training.network
from alexnet.labels import Labels
from export.parity import ParityError, compare, predictor
from export.precision import calibrate, to_int8
from export.to_onnx import to_onnx
from training.importers import IMAGENET_MEAN, IMAGENET_STD, Model
from training.network import AlexNet


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    """Random weights with distinct logits, and ImageNet's normalisation, which must be folded."""
    monkeypatch.setattr(training.network, "HIDDEN", 64)
    torch.manual_seed(0)
    network = AlexNet(1000).eval()
    with torch.no_grad():
        for layer in network.layers:
            layer.weight.mul_(2)
    labels = Labels.imagenet()
    return Model(network, IMAGENET_MEAN, IMAGENET_STD, labels, 1000, {}, "0" * 64)


@pytest.fixture
def crops() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (16, 224, 224, 3), np.uint8)


def reference(model: Model, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.inference_mode():
        logits: NDArray[np.float32] = model.deployable(torch.from_numpy(crops)).numpy()
    return logits


def test_fp32_computes_what_torch_computes(model: Model, crops: NDArray[np.uint8]) -> None:
    logits = predictor(to_onnx(model, 224))(crops)
    np.testing.assert_allclose(logits, reference(model, crops), rtol=1e-3, atol=1e-4)


def test_any_batch_size_goes_through(model: Model, crops: NDArray[np.uint8]) -> None:
    predict = predictor(to_onnx(model, 224))
    np.testing.assert_allclose(predict(crops[:1]), predict(crops)[:1], atol=1e-4)


def test_int8_stays_close_with_the_normalisation_folded_away(
    model: Model, crops: NDArray[np.uint8]
) -> None:
    onnx = to_int8(model, 224, calibrate(model, crops))
    wanted, got = reference(model, crops), predictor(onnx)(crops)
    error = np.abs(got - wanted).max() / np.abs(wanted).max()
    assert error < 0.05


def test_every_layer_runs_in_integers(
    model: Model, crops: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One layer that ONNX Runtime leaves in float costs half of the speed, and no other test."""
    optimised = tmp_path_factory.mktemp("onnx") / "optimised.onnx"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(optimised)
    options.log_severity_level = 3
    onnx = to_int8(model, 224, calibrate(model, crops))
    onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    graph = optimised.read_bytes()
    assert graph.count(b"QLinearConv") == 5
    assert graph.count(b"QGemm") >= 3
    for name in (b"FusedConv", b"\x04Gemm", b"\x04Conv"):
        assert name not in graph


def test_a_crop_that_alexnet_cannot_flatten_is_refused(model: Model) -> None:
    with pytest.raises(ValueError, match="export at 224 px"):
        to_onnx(model, 128)


def test_parity_refuses_another_network(model: Model, crops: NDArray[np.uint8]) -> None:
    wanted = reference(model, crops)
    assert compare("fp32", wanted, wanted).agreement == 1
    with pytest.raises(ParityError, match="int8 is refused"):
        compare("int8", wanted, np.roll(wanted, 1, axis=1))
    with pytest.raises(ParityError, match="not finite"):
        compare("fp32", wanted, np.full_like(wanted, np.nan))
