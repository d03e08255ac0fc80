"""The int8 graph of every plain architecture against torch, and the parity check."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import nn

from alexnet.int8_kernels import exact_sums
from alexnet.labels import Labels
from alexnet.onnx_runtime import onnxruntime
from export.parity import ParityError, compare, predictor
from export.precision import calibrate, fold_normalisation, to_int8
from export.sequence import sequence
from gpu.typed import float_graph
from tests.networks import PLAIN
from tests.photos import draw
from training.importers import IMAGENET_MEAN, IMAGENET_STD, TrainedModel
from training.network import ARCHITECTURES, AlexNet


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
    std = (1.0, 1.0, 1.0) if ARCHITECTURES[arch].original else IMAGENET_STD
    crop = ARCHITECTURES[arch].crop
    return TrainedModel(network, IMAGENET_MEAN, std, Labels.imagenet(), 1000, {}, "0" * 64, crop)


@pytest.fixture
def imaged(model: TrainedModel) -> TrainedModel:
    """With a mean image that is far from constant, above all at the border."""
    side = model.crop
    waves = torch.from_numpy(np.array(draw(side, side, seed=77), np.float32)) - 128
    image = torch.tensor(IMAGENET_MEAN) + 0.5 * waves
    return replace(model, image=image, mean=tuple(image.mean((0, 1)).tolist()))


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


def test_what_rounding_takes_from_very_many_weights_is_in_the_bias(
    model: TrainedModel, crops: NDArray[np.uint8]
) -> None:
    with torch.no_grad():
        for layer in model.network.layers[1:7]:
            layer.weight += 0.0035 * layer.weight.abs().max()  # of which a step is 1/127
    wanted, calibration = reference(model, crops), calibrate(model, crops)
    forgotten = replace(calibration, means=tuple(map(torch.zeros_like, calibration.means)))
    errors = [
        np.sqrt(np.mean((predictor(to_int8(model, model.crop, each))(crops) - wanted) ** 2))
        for each in (calibration, forgotten)
    ]
    assert errors[0] < 0.85 * errors[1]


def test_int8_stays_close_with_a_mean_image(imaged: TrainedModel, crops: NDArray[np.uint8]) -> None:
    wanted = reference(imaged, crops)
    got = predictor(to_int8(imaged, imaged.crop, calibrate(imaged, crops)))(crops)
    error = np.sqrt(np.mean((got - wanted) ** 2)) / wanted.std(0).mean()
    assert error < 0.15


def test_conv1_with_the_map_of_the_mean_image_is_exact_to_the_border(
    imaged: TrainedModel, crops: NDArray[np.uint8]
) -> None:
    """The int8 graph without its rounding: no other difference is left."""
    graph = float_graph(to_int8(imaged, imaged.crop, calibrate(imaged, crops[:1])))
    end = next(node.output[0] for node in graph.graph.node if node.op_type == "Add")
    del graph.graph.output[:]
    graph.graph.output.append(helper.make_empty_tensor_value_info(end))
    conv1 = imaged.network.layers[0]
    for initializer in graph.graph.initializer:  # the weights before they were rounded
        if initializer.name in ("w0", "b0"):
            exact = dict(zip(("w0", "b0"), fold_normalisation(imaged), strict=True))
            initializer.CopyFrom(numpy_helper.from_array(exact[initializer.name], initializer.name))
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (got,) = session.run([end], {"images": crops[:2]})
    assert imaged.image is not None
    x = ((torch.from_numpy(crops[:2]) - imaged.image) / torch.tensor(imaged.std)).permute(
        0, 3, 1, 2
    )
    modules = sequence(imaged.network)
    with torch.inference_mode():
        for module in modules[: modules.index(conv1) + 1]:
            x = module(x)
    np.testing.assert_allclose(got, x.numpy(), atol=1e-4 * float(x.abs().max()))


@pytest.mark.parametrize("image", [False, True])
def test_every_layer_with_weights_runs_in_integers(
    model: TrainedModel, imaged: TrainedModel, crops: NDArray[np.uint8], tmp_path: Path, image: bool
) -> None:
    """One layer left in float by ONNX Runtime would halve the speed and fail no other test."""
    model = imaged if image else model
    optimised = tmp_path / "optimised.onnx"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(optimised)
    exact_sums(options)
    options.log_severity_level = 3
    int8 = to_int8(model, model.crop, calibrate(model, crops[:1]))
    onnxruntime.InferenceSession(int8, options, providers=["CPUExecutionProvider"])
    kernels = Counter(node.op_type for node in onnx.load(optimised).graph.node)
    assert (kernels["QLinearConv"], kernels["QGemm"]) == (5, 3)
    assert sum(n for op, n in kernels.items() if op.endswith(("Conv", "Gemm"))) == 5 + 3
    assert kernels["MaxPool"] == 0  # each is channels-last, too: 30 times faster
    if model.network.arch == "alexnet" and not image:
        assert not kernels.keys() & {"QuantizeLinear", "DequantizeLinear"}


@pytest.mark.parametrize("model", ["alexnet"], indirect=True)
@pytest.mark.parametrize("weight", [1e-8, 0.0])
def test_a_channel_that_is_nearly_dead_keeps_its_bias(
    model: TrainedModel, crops: NDArray[np.uint8], weight: float
) -> None:
    conv2 = model.network.layers[1]
    with torch.no_grad():
        assert conv2.bias is not None
        conv2.weight[0].mul_(weight)
        conv2.bias[0] = 100
    graph = onnx.load_from_string(to_int8(model, model.crop, calibrate(model, crops[:1]))).graph
    values = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
    assert values["b1_q"][0] * values["b1_scale"][0] == pytest.approx(100, rel=1e-3)


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


@pytest.mark.parametrize("model", ["alexnet2012"], indirect=True)
def test_conv1_is_calibrated_on_what_is_rounded_which_is_without_the_map(
    imaged: TrainedModel,
) -> None:
    """A photo that is the mean image gives next to nothing, but only once the map is added."""
    assert imaged.image is not None
    mean = imaged.image.round().to(torch.uint8)[None].numpy()
    outputs: list[torch.Tensor] = []
    hook = imaged.network.layers[0].register_forward_hook(lambda *taken: outputs.append(taken[2]))
    reference(imaged, mean)
    hook.remove()
    assert calibrate(imaged, mean).scales[0] * 127 > 5 * float(outputs[0].abs().max())
