"""Plain networks compute what those in training do: batch norm and dropout are folded."""

import pytest
import torch
from torch import nn

from tests.networks import noise, random_network
from training.network import AlexNet
from training.plain import to_plain


def randomise(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
    random = torch.Generator().manual_seed(norm.num_features)
    state = norm.state_dict()
    state["running_mean"].normal_(0, 0.3, generator=random)
    state["running_var"].uniform_(0.5, 2, generator=random)
    state["weight"].uniform_(-1.5, 1.5, generator=random)
    state["bias"].normal_(0, 0.3, generator=random)


@pytest.mark.usefixtures("narrow")
def test_folding_batch_norm_changes_the_names_but_not_the_function() -> None:
    torch.manual_seed(0)
    network = AlexNet(20, "alexnet-bn")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            randomise(module)
    folded = to_plain(network.eval())
    x = torch.randn(4, 3, 80, 80)
    with torch.inference_mode():
        torch.testing.assert_close(folded(x), network(x), rtol=1e-4, atol=1e-4)
        assert network(x).std() > 0.01
    assert folded.state_dict().keys() == AlexNet(20).state_dict().keys()
    assert folded.arch == "alexnet"


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("arch", ["alexnet", "alexnet2012", "alexnet2012-paper"])
def test_the_plain_network_computes_the_trained_one_without_dropout(arch: str) -> None:
    network, x = random_network(arch), noise(2, 3, 96, 96, scale=60)
    finished = to_plain(network)
    assert finished.arch == arch
    with torch.inference_mode():
        expected = network(x)
        torch.testing.assert_close(finished(x), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(finished.train()(x), finished.eval()(x), rtol=1e-5, atol=1e-4)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(("arch", "factor"), [("alexnet", 1.0), ("alexnet2012", 0.5)])
def test_the_dropout_of_2012_halves_the_weights_of_fc7_and_fc8_only(
    arch: str, factor: float
) -> None:
    network = random_network(arch)
    scales = [1.0] * 6 + [factor] * 2
    for before, after, scale in zip(network.layers, to_plain(network).layers, scales, strict=True):
        assert torch.equal(after.weight, scale * before.weight)
        assert torch.equal(after.bias, before.bias)  # type: ignore[arg-type]
