"""The float32 graph of every plain architecture against torch."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from alexnet.labels import Labels
from export.parity import predictor
from export.sequence import rounding_points, sequence
from export.to_onnx import to_onnx
from tests.networks import PLAIN, SIDES, photos, random_model
from training.importers import IMAGENET_MEAN, IMAGENET_STD, TrainedModel
from training.network import AlexNet

pytestmark = pytest.mark.usefixtures("narrow")


def reference(model: TrainedModel, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.inference_mode():
        logits: NDArray[np.float32] = model.deployable(torch.from_numpy(crops)).numpy()
    return logits


@pytest.mark.parametrize("arch", PLAIN)
@pytest.mark.parametrize("image", [False, True])
def test_fp32_computes_the_same_as_torch(arch: str, image: bool) -> None:
    model, crops = random_model(arch, image=image), photos(SIDES[arch])
    wanted, got = reference(model, crops), predictor(to_onnx(model, model.crop))(crops)
    assert np.abs(got - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_any_batch_size_is_accepted() -> None:
    predict, crops = predictor(to_onnx(random_model("alexnet2012"), 224)), photos(224)
    logits = predict(crops)
    np.testing.assert_allclose(predict(crops[:1]), logits[:1], atol=1e-4 * np.abs(logits).max())


def test_a_mean_image_is_subtracted_at_its_place() -> None:
    """Photos that are the mean image itself become an input of 0, to half a grey level."""
    model = random_model("alexnet2012", image=True)
    assert model.image is not None
    for layer in model.network.layers:
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    mean = model.image.round().clamp(0, 255).to(torch.uint8)[None].numpy()
    predict = predictor(to_onnx(model, 224))
    assert np.abs(predict(mean)).max() < 0.05 * np.abs(predict(mean[:, ::-1])).max()


@pytest.mark.parametrize(("arch", "side"), [("alexnet", 128), ("alexnet2012", 128),
                                            ("alexnet-caffe", 224)])  # fmt: skip
def test_a_crop_that_alexnet_cannot_flatten_is_refused(arch: str, side: int) -> None:
    with pytest.raises(ValueError, match="fold the network for that crop"):
        to_onnx(random_model(arch), side)


@pytest.mark.parametrize("arch", ["alexnet2012", "alexnet-bn"])
def test_a_network_that_is_not_plain_is_a_bug(arch: str) -> None:
    network = AlexNet(10, arch)
    model = TrainedModel(network, IMAGENET_MEAN, IMAGENET_STD, Labels.imagenet(), 10, {}, "0" * 64)
    with pytest.raises(AssertionError):
        to_onnx(model, 224)


@pytest.mark.parametrize("arch", PLAIN)
def test_the_order_of_the_graph_does_not_change_the_result(arch: str) -> None:
    network = random_model(arch).network
    x = torch.randn(1, 3, 80, 80)
    with torch.inference_mode():
        assert torch.equal(nn.Sequential(*sequence(network))(x), network(x))


def test_no_pooling_comes_before_its_relu() -> None:
    names = [type(module).__name__ for module in sequence(AlexNet(10, "alexnet2012", dropout=0.0))]
    assert " ".join(names[:8]) == (
        "ZeroPad2d Conv2d CrossMapNorm ReLU MaxPool2d Conv2d ReLU CrossMapNorm"
    )
    assert "Conv2d ReLU MaxPool2d AdaptiveAvgPool2d Flatten Linear" in " ".join(names)


@pytest.mark.parametrize(
    ("arch", "points"),
    [
        ("alexnet", "ReLU " * 7),
        ("alexnet2012", "Conv2d ReLU ReLU SpatialNorm " + "ReLU " * 5),
        ("alexnet2012-paper", "ReLU CrossMapNorm ReLU CrossMapNorm " + "ReLU " * 5),
        ("alexnet-caffe", "ReLU CrossMapNorm ReLU CrossMapNorm " + "ReLU " * 5),
    ],
)
def test_int8_rounds_the_input_of_each_layer(arch: str, points: str) -> None:
    found = rounding_points(AlexNet(10, arch, dropout=0.0))
    assert [type(point).__name__ for point in found] == points.split()


@pytest.mark.parametrize(
    ("arch", "points"),
    [
        ("alexnet", "Conv2d " + "ReLU " * 7),
        ("alexnet2012", "Conv2d ReLU ReLU SpatialNorm " + "ReLU " * 5),
        ("alexnet2012-paper", "Conv2d CrossMapNorm ReLU CrossMapNorm " + "ReLU " * 5),
        ("alexnet-caffe", "Conv2d CrossMapNorm ReLU CrossMapNorm " + "ReLU " * 5),
    ],
)
def test_with_a_mean_image_int8_rounds_conv1_before_its_relu(arch: str, points: str) -> None:
    network = AlexNet(10, arch, dropout=0.0)
    found = rounding_points(network, image=True)
    assert [type(point).__name__ for point in found] == points.split()
    assert found[0] is network.layers[0]
