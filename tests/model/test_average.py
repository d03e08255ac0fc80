import pytest
import torch
from torch import nn

from training.average import decay_at, update


def test_the_average_is_the_recursion_of_its_definition() -> None:
    torch.manual_seed(0)
    average, network = nn.Linear(3, 2), nn.Linear(3, 2)
    expected = average.weight.detach().double().clone()
    for step in range(1, 40):
        with torch.no_grad():
            network.weight.normal_()
        decay = decay_at(0.9, step)
        expected = decay * expected + (1 - decay) * network.weight.detach().double()
        update(average, network, decay)
    torch.testing.assert_close(average.weight.detach().double(), expected, rtol=1e-5, atol=1e-6)


def test_statistics_of_batch_norm_are_averaged_and_its_counter_is_copied() -> None:
    average, network = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    network.running_mean, network.num_batches_tracked = torch.tensor([4.0, 8.0]), torch.tensor(7)
    update(average, network, 0.75)
    assert average.running_mean is not None
    assert average.running_mean.tolist() == [1.0, 2.0]
    assert average.num_batches_tracked == 7


def test_the_first_weights_are_soon_forgotten() -> None:
    kept = 1.0
    for step in range(1, 31):
        kept *= decay_at(0.999, step)
    assert kept < 1e-5
    assert decay_at(0.999, 100_000) == 0.999
    assert decay_at(0.0, 5) == 0.0


def test_an_average_shares_no_memory_with_the_network() -> None:
    average, network = nn.Linear(2, 2), nn.Linear(2, 2)
    update(average, network, 0.0)
    with torch.no_grad():
        network.weight.zero_()
    assert average.weight.abs().sum() > 0
    assert average.weight.grad is None
    assert pytest.approx(0) == network.weight.abs().sum().item()
