import pytest
import torch
from torch import Tensor, nn

from training.network import AlexNet
from training.prune import prune, sparsity_at
from training.recipe import Recipe


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> AlexNet:
    """fc6 has 4.7 M weights, so its threshold comes from a sample; fc7 and fc8 are counted."""
    monkeypatch.setattr("training.network.HIDDEN", 512)
    torch.manual_seed(0)
    return AlexNet(10)


def weights(network: AlexNet) -> list[Tensor]:
    return [layer.weight.detach().clone() for layer in network.fully_connected]


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_each_fully_connected_layer_reaches_the_sparsity(network: AlexNet, sparsity: float) -> None:
    prune(network, sparsity)
    reached = [(w == 0).float().mean().item() for w in weights(network)]
    assert reached == pytest.approx([sparsity] * 3, abs=1e-3)


def test_the_smallest_weights_are_zeroed_and_the_others_unchanged(network: AlexNet) -> None:
    before = weights(network)
    prune(network, 0.7)
    for old, new in zip(before, weights(network), strict=True):
        gone = new == 0
        assert old[gone].abs().max() < old[~gone].abs().min()
        assert torch.equal(new[~gone], old[~gone])


def test_convolutions_and_biases_are_not_pruned(network: AlexNet) -> None:
    kept = [layer.weight for layer in network.layers if isinstance(layer, nn.Conv2d)]
    kept += [layer.bias for layer in network.layers if layer.bias is not None]
    before = [p.detach().clone() for p in kept]
    prune(network, 0.9)
    assert len(kept) == 5 + 8
    assert all(torch.equal(a, b) for a, b in zip(kept, before, strict=True))


def test_no_sparsity_changes_nothing(network: AlexNet) -> None:
    before = weights(network)
    prune(network, 0.0)
    assert all(map(torch.equal, weights(network), before))


def test_a_weight_that_has_grown_back_stays(network: AlexNet) -> None:
    prune(network, 0.5)
    row, column = (network.fully_connected[1].weight == 0).nonzero()[0].tolist()
    with torch.no_grad():
        network.fully_connected[1].weight[row, column] = 1.0
    prune(network, 0.5)
    assert network.fully_connected[1].weight[row, column] == 1.0


def sparsities(recipe: Recipe, *done: float) -> list[float]:
    return [sparsity_at(d, recipe) for d in done]


def test_sparsity_follows_a_cubic_from_two_fifths_to_four_fifths_of_the_run() -> None:
    recipe = Recipe("test", 1, sparsity=0.8)
    assert sparsities(recipe, 0.0, 0.2, 0.4) == [0, 0, 0]
    assert sparsities(recipe, 0.5, 0.6, 0.7) == pytest.approx(
        [0.8 * (1 - 0.75**3), 0.8 * (1 - 0.5**3), 0.8 * (1 - 0.25**3)]
    )
    assert sparsities(recipe, 0.8, 0.9, 1.0) == pytest.approx([0.8] * 3)


def test_a_run_that_starts_pruned_stays_pruned() -> None:
    recipe = Recipe("test", 1, sparsity=0.9, pruning=(0, 0))
    assert sparsities(recipe, 0.0, 0.001, 0.5, 1.0) == [0.9] * 4


def test_sparsity_never_falls() -> None:
    rising = sparsities(Recipe("test", 1, sparsity=0.9), *(i / 100 for i in range(101)))
    assert rising == sorted(rising)
