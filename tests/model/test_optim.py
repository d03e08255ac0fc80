import pytest
import torch
from torch import nn

from training.network import AlexNet
from training.optim import learning_rate, optimizer
from training.recipe import Recipe

RECIPE = Recipe("test", epochs=1, peak_lr=0.5, warmup=0.1, weight_decay=0.01, momentum=0.9)


def test_the_rate_rises_in_a_line_to_the_peak_and_falls_in_a_line_to_zero() -> None:
    rates = [learning_rate(RECIPE, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.05 * (i + 1) for i in range(10)])
    assert max(rates) == rates[9] == RECIPE.peak_lr
    assert rates[9:] == pytest.approx([0.5 * (90 - i) / 90 for i in range(91)])
    assert rates[-1] == 0.0


def test_without_warm_up_the_rate_only_falls() -> None:
    recipe = Recipe("test", epochs=1, peak_lr=1.0, warmup=0.0)
    assert [learning_rate(recipe, s, 4) for s in range(4)] == pytest.approx([0.75, 0.5, 0.25, 0])


def test_only_weight_matrices_decay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.network.HIDDEN", 16)
    network = AlexNet(5, batch_norm=True)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimiser = optimizer(network, RECIPE)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    # With Nesterov momentum the first step is (1 + momentum) times the gradient.
    shrunk = 1 - RECIPE.peak_lr * RECIPE.weight_decay * (1 + RECIPE.momentum)
    matrices = 0
    for name, parameter in network.named_parameters():
        matrices += parameter.dim() > 1
        factor = shrunk if parameter.dim() > 1 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor)
    assert matrices == 8


def test_steps_are_sgd_with_nesterov_momentum() -> None:
    layer = nn.Linear(1, 1)
    optimiser = optimizer(layer, Recipe("test", epochs=1, peak_lr=0.1, momentum=0.5))
    expected, velocity = layer.bias.item(), 0.0
    for gradient in (1.0, -2.0, 3.0):
        layer.weight.grad, layer.bias.grad = torch.zeros(1, 1), torch.tensor([gradient])
        optimiser.step()
        velocity = 0.5 * velocity + gradient
        expected -= 0.1 * (gradient + 0.5 * velocity)
        assert layer.bias.item() == pytest.approx(expected, abs=1e-6)
