from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.network import AlexNet, Deployable, fold_batch_norm

# torchvision.models.alexnet().state_dict()
TORCHVISION = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
    "classifier.1": (4096, 9216),
    "classifier.4": (4096, 4096),
    "classifier.6": (1000, 4096),
}


@pytest.fixture(scope="module")
def network() -> AlexNet:
    torch.manual_seed(0)
    return AlexNet().eval()


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 hidden units instead of 4096: the same code at a sixtieth of the weights."""
    monkeypatch.setattr("training.network.HIDDEN", 64)


def reference(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """AlexNet written out layer by layer on a state dict."""

    def convolve(x: Tensor, name: str, stride: int, padding: int) -> Tensor:
        weight, bias = state[f"features.{name}.weight"], state[f"features.{name}.bias"]
        return F.conv2d(x, weight, bias, stride, padding).relu()

    def connect(x: Tensor, name: str) -> Tensor:
        return x @ state[f"classifier.{name}.weight"].T + state[f"classifier.{name}.bias"]

    x = F.max_pool2d(convolve(x, "0", 4, 2), 3, 2)
    x = F.max_pool2d(convolve(x, "3", 1, 2), 3, 2)
    x = convolve(convolve(x, "6", 1, 1), "8", 1, 1)
    x = F.max_pool2d(convolve(x, "10", 1, 1), 3, 2)
    x = F.adaptive_avg_pool2d(x, 6).flatten(1)
    return connect(connect(connect(x, "1").relu(), "4").relu(), "6")


def test_it_has_the_papers_61_100_840_parameters(network: AlexNet) -> None:
    assert sum(p.numel() for p in network.parameters()) == 61_100_840


def test_its_state_dict_has_torchvisions_names_and_shapes(network: AlexNet) -> None:
    expected = {f"{name}.weight": shape for name, shape in TORCHVISION.items()}
    expected |= {f"{name}.bias": shape[:1] for name, shape in TORCHVISION.items()}
    assert {k: tuple(v.shape) for k, v in network.state_dict().items()} == expected


def test_layers_are_the_eight_with_weights_in_order(network: AlexNet) -> None:
    assert [tuple(layer.weight.shape) for layer in network.layers] == list(TORCHVISION.values())
    assert network.fully_connected == network.layers[5:]
    assert network.classes == 1000


@pytest.mark.parametrize("side", [224, 96])
def test_it_computes_alexnet(network: AlexNet, side: int) -> None:
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(network(x), reference(network.state_dict(), x))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("size", [(63, 63), (64, 64), (227, 227), (70, 150)])
def test_any_size_from_63_px_gives_logits(size: tuple[int, int], batch_norm: bool) -> None:
    network = AlexNet(7, batch_norm=batch_norm)
    assert network(torch.randn(2, 3, *size)).shape == (2, 7)


@pytest.mark.usefixtures("narrow")
def test_a_smaller_photo_than_63_px_does_not_fit() -> None:
    with pytest.raises(RuntimeError):
        AlexNet(7)(torch.randn(2, 3, 62, 62))


@pytest.mark.usefixtures("narrow")
def test_dropout_acts_in_training_only() -> None:
    network, x = AlexNet(7, dropout=0.5), torch.randn(2, 3, 64, 64)
    network.train()
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def randomise(norm: nn.Module) -> None:
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    random = torch.Generator().manual_seed(norm.num_features)
    state = norm.state_dict()
    state["running_mean"].normal_(0, 0.3, generator=random)
    state["running_var"].uniform_(0.5, 2, generator=random)
    state["weight"].uniform_(-1.5, 1.5, generator=random)
    state["bias"].normal_(0, 0.3, generator=random)


@pytest.mark.usefixtures("narrow")
def test_folding_batch_norm_changes_the_names_but_not_the_function() -> None:
    torch.manual_seed(0)
    network = AlexNet(20, batch_norm=True)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            randomise(module)
    network.eval()
    plain = fold_batch_norm(network)
    x = torch.randn(4, 3, 80, 80)
    with torch.inference_mode():
        expected = network(x)
        torch.testing.assert_close(plain(x), expected, rtol=1e-4, atol=1e-4)
        assert expected.std() > 0.01
    assert plain.state_dict().keys() == AlexNet(20).state_dict().keys()
    assert not plain.batch_norm


@pytest.mark.usefixtures("narrow")
def test_a_network_without_batch_norm_is_folded_already() -> None:
    network = AlexNet(7)
    assert fold_batch_norm(network) is network


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(
    ("constants", "mean", "std"),
    [
        ({}, (128, 128, 128), (64, 64, 64)),
        (
            {"mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4)},
            (123.7, 116.3, 103.5),
            (58.4, 57.1, 57.4),
        ),
    ],
)
def test_deployable_takes_pixels_as_they_are(
    constants: Any, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    network = AlexNet(7).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    normalised = ((pixels - np.array(mean)) / np.array(std)).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        logits = Deployable(network, **constants)(torch.from_numpy(pixels))
        expected = reference(network.state_dict(), torch.from_numpy(normalised).float())
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
