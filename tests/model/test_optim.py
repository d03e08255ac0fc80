from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

from training.network import AlexNet
from training.optim import freeze, optimizer, set_rates
from training.recipe import ORIGINAL, Recipe

STEPS = 90  # one for each epoch of 2012, with all its drops


class Tiny(nn.Module):
    """The parts of a network that the optimiser needs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(3, 2), nn.Linear(2, 4)])


def network_and_optimiser(recipe: Recipe) -> tuple[list[nn.Parameter], torch.optim.SGD]:
    network = Tiny()
    return list(network.parameters()), optimizer(cast(AlexNet, network), recipe)


def gradients() -> list[list[np.ndarray]]:
    """For each step, one for each parameter."""
    rng = np.random.default_rng(0)
    return [[rng.normal(0.1, 1, s) for s in ((2, 3), 2, (4, 2), 4)] for _ in range(STEPS)]


def train(recipe: Recipe) -> list[list[np.ndarray]]:
    """The parameters after each step with the project's optimiser."""
    parameters, sgd = network_and_optimiser(recipe)
    history = []
    for step, given in enumerate(gradients()):
        set_rates(sgd, recipe, step, STEPS)
        for parameter, gradient in zip(parameters, given, strict=True):
            parameter.grad = torch.from_numpy(gradient).float()
        sgd.step()
        history.append([p.detach().numpy().copy() for p in parameters])
    return history


def train_original() -> list[list[np.ndarray]]:
    """The same by the rule of 2012: V <- 0.9 V - rate (gradient + decay W), W <- W + V, in float64.

    Rates from its log: the biases keep 0.02; the first layer drops earlier, then is frozen.
    """
    values = [p.detach().double().numpy() for p in Tiny().parameters()]
    velocities = [np.zeros_like(v) for v in values]
    history = []
    for epoch, given in enumerate(gradients(), 1):
        rate = 1e-2 if epoch < 25 else 1e-3 if epoch < 51 else 1e-4 if epoch < 79 else 1e-5
        first = rate if epoch < 67 else 1e-5
        for i, (own, decay) in enumerate([(first, 5e-4), (0.02, 0), (rate, 5e-4), (0.02, 0)]):
            if epoch >= 72 and i < 2:
                continue
            velocities[i] = 0.9 * velocities[i] - own * (given[i] + decay * values[i])
            values[i] = values[i] + velocities[i]
        history.append(list(values))
    return history


def differences(one: list[list[np.ndarray]], two: list[list[np.ndarray]]) -> list[float]:
    """The largest difference after each step."""
    pairs = zip(one, two, strict=True)
    return [max(np.abs(a - b).max() for a, b in zip(*pair, strict=True)) for pair in pairs]


def test_recipe_2012_makes_the_steps_of_2012_through_all_drops_and_the_freeze() -> None:
    ours = train(ORIGINAL)
    assert max(differences(ours, train_original())) < 1e-5
    for frozen in (0, 1):
        assert all(np.array_equal(after[frozen], ours[70][frozen]) for after in ours[71:])
        assert not np.array_equal(ours[69][frozen], ours[70][frozen])
    assert not np.array_equal(ours[88][2], ours[89][2])


def test_torchs_own_momentum_differs_from_the_first_drop_on() -> None:
    largest = differences(train(replace(ORIGINAL, rate_in_velocity=False)), train_original())
    assert max(largest[:24]) < 1e-5
    assert largest[24] > 1e-3


def test_the_rates_of_a_step_are_set_and_returned() -> None:
    _, sgd = network_and_optimiser(ORIGINAL)
    assert set_rates(sgd, ORIGINAL, 30, STEPS) == pytest.approx((0.001, 0.02, 0.001, 0.02))
    assert [group["lr"] for group in sgd.param_groups] == pytest.approx([0.001, 0.02] * 2)


@pytest.mark.parametrize(
    ("arch", "tensors"), [("alexnet2012", [7, 7, 1, 1]), ("alexnet-bn", [7, 15, 1])]
)
def test_every_parameter_is_in_one_group_and_conv1_in_its_own(
    arch: str, tensors: list[int]
) -> None:
    """Batch norm has a scale and a shift for each of 7 layers, and leaves one bias, fc8's."""
    with torch.device("meta"):
        network = AlexNet(10, arch)
    sgd = optimizer(network, ORIGINAL)
    assert [len(group["params"]) for group in sgd.param_groups] == tensors
    assert {group["factor"] for group in sgd.param_groups} == {1.0}
    grouped = [id(p) for group in sgd.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in network.parameters())
    assert sgd.param_groups[2]["params"][0] is network.layers[0].weight
    assert [group["weight_decay"] for group in sgd.param_groups] == [5e-4, 0, 5e-4, 0][
        : len(tensors)
    ]
    set_rates(sgd, ORIGINAL, 0, STEPS)
    assert [g["lr"] for g in sgd.param_groups] == [0.01, 0.02, 0.01, 0.02][: len(tensors)]


def test_trained_layers_learn_slower_than_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.network.HIDDEN", 16)
    recipe = Recipe("test", epochs=1, peak_lr=0.5, body=0.1, warmup=0.0)
    network = AlexNet(5)
    sgd = optimizer(network, recipe)
    set_rates(sgd, recipe, 0, 2)
    rates = {id(p): group["lr"] for group in sgd.param_groups for p in group["params"]}
    assert len(rates) == len(list(network.parameters()))
    for layer in network.layers:
        expected = 0.25 if layer is network.layers[-1] else 0.025
        assert rates[id(layer.weight)] == rates[id(layer.bias)] == pytest.approx(expected)


def test_frozen_layers_keep_their_weights_and_the_statistics_of_their_norms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("training.network.HIDDEN", 16)
    recipe = Recipe("test", epochs=2, frozen=0.5, kept=5)
    network = AlexNet(5, "alexnet-bn").train()
    for frozen in (True, False):
        before = {name: t.clone() for name, t in network.state_dict().items()}
        freeze(network.train(), recipe, frozen, alone=True)
        sgd = optimizer(network, recipe)
        network(torch.randn(4, 3, 64, 64)).square().sum().backward()
        sgd.step()
        after = network.state_dict()
        same = {name for name in before if torch.equal(before[name], after[name])}
        convolutions = {name for name in before if name.startswith("features.")}
        assert same == (convolutions if frozen else set())
        sgd.zero_grad()


def test_only_weight_matrices_decay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.network.HIDDEN", 16)
    recipe = Recipe("test", epochs=1, peak_lr=0.5, weight_decay=0.01)
    network = AlexNet(5, "alexnet-bn")
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    sgd = optimizer(network, recipe)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    sgd.step()
    # With Nesterov momentum the first step is (1 + momentum) times the gradient.
    shrunk = 1 - 0.5 * 0.01 * (1 + 0.9)
    matrices = 0
    for name, parameter in network.named_parameters():
        matrices += parameter.dim() > 1
        factor = shrunk if parameter.dim() > 1 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor)
    assert matrices == 8


def test_modern_steps_are_sgd_with_nesterov_momentum() -> None:
    parameters, sgd = network_and_optimiser(Recipe("test", epochs=1, peak_lr=0.1, momentum=0.5))
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    bias = parameters[3]
    expected, velocity = bias[0].item(), 0.0
    for gradient in (1.0, -2.0, 3.0):
        bias.grad = torch.full_like(bias, gradient)
        sgd.step()
        velocity = 0.5 * velocity + gradient
        expected -= 0.1 * (gradient + 0.5 * velocity)
        assert bias[0].item() == pytest.approx(expected, abs=1e-6)
