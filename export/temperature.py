"""Probabilities that mean what they say: the network's logits, divided by a temperature.

Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv 1706.04599): one number, fitted
on photos that training did not see, which changes no order of classes. It goes into the last layer
of the exported network, so no engine and no server needs to know of it.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from alexnet.manifest import Calibration
from alexnet.postprocess import softmax
from training.importers import TrainedModel

LEAST = 200  # photos: with fewer the temperature would be of their noise
BINS = 15  # as in the paper
RANGE = (0.05, 20.0)


def calibrate_probabilities(
    model: TrainedModel, logits: NDArray[np.float32], targets: NDArray[np.int64]
) -> Calibration | None:
    """Puts the temperature into the model's last layer. `logits` (N, classes) are its answers to
    photos of the classes `targets`; if these are too few, it stays as it is."""
    if len(targets) < LEAST:
        return None
    temperature = fit(logits, targets)
    last = model.network.layers[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.div_(temperature)
        last.bias.div_(temperature)
    before, after = (calibration_error(softmax(logits / t), targets) for t in (1.0, temperature))
    return Calibration(round(temperature, 4), round(before, 4), round(after, 4), len(targets))


def fit(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    """The temperature with the least cross-entropy, by golden section over its logarithm: the
    cross-entropy has one minimum, as it is convex in 1 / temperature."""
    own = logits.astype(np.float64)
    rows = np.arange(len(targets))

    def cost(log_t: float) -> float:
        scaled = own / np.exp(log_t)
        scaled -= scaled.max(1, keepdims=True)
        return float(np.mean(np.log(np.exp(scaled).sum(1)) - scaled[rows, targets]))

    low, high = np.log(RANGE)
    ratio = (5**0.5 - 1) / 2
    while high - low > 1e-4:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if cost(left) < cost(right) else (left, high)
    return float(np.exp((low + high) / 2))


def calibration_error(probabilities: NDArray[np.floating], targets: NDArray[np.int64]) -> float:
    """The expected calibration error: how far the probability of the first class is from the share
    of photos that it is right on, in bins of equal width, weighed by their photos."""
    first, right = probabilities.max(1), probabilities.argmax(1) == targets
    bins = np.minimum((first * BINS).astype(int), BINS - 1)
    gaps = [abs(float(np.sum(first[bins == b] - right[bins == b]))) for b in range(BINS)]
    return sum(gaps) / len(targets)
