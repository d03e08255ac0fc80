"""Top-1 and top-5 of anything that maps uint8 crops to logits: a network, an engine, a server."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.data import Dataset

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Accuracy(NamedTuple):
    top1: float
    top5: float
    photos: int

    def __str__(self) -> str:
        return f"top-1 {self.top1:.1%}, top-5 {self.top5:.1%} of {self.photos} photos"


def accuracy(predict: Predict, data: Dataset, batch: int = 64) -> Accuracy:
    """Scores `predict`: (N, H, W, 3) uint8 -> (N, classes) logits. Ties count against it."""
    return score(logits(predict, data.images, batch), data.targets)


def logits(predict: Predict, images: NDArray[np.uint8], batch: int = 64) -> NDArray[np.float32]:
    """`predict` over all of the images, `batch` at a time."""
    starts = range(0, len(images), batch)
    return np.concatenate([predict(images[i : i + batch]) for i in starts])


def score(outputs: NDArray[np.float32], targets: NDArray[np.int64]) -> Accuracy:
    own = outputs[np.arange(len(targets)), targets, None]
    rank = (~(outputs < own)).sum(1) - 1  # so that NaN counts against it as well
    return Accuracy(float(np.mean(rank < 1)), float(np.mean(rank < 5)), len(targets))
