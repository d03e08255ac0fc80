"""Scores of anything that answers a photo with a number for each class: logits, probabilities."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.data import Dataset

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Outputs = NDArray[np.floating[Any]]
"""(N, classes) logits or probabilities: larger is more likely."""


class Accuracy(NamedTuple):
    top1: float
    top5: float
    photos: int

    def __str__(self) -> str:
        return f"top-1 {self.top1:.1%}, top-5 {self.top5:.1%} of {self.photos} photos"

    @property
    def standard_error(self) -> float:
        """Of top-1, as of the mean of `photos` independent draws: sqrt(p (1 - p) / n)."""
        return float((self.top1 * (1 - self.top1) / self.photos) ** 0.5)


class ClassScore(NamedTuple):
    target: int
    accuracy: Accuracy
    taken_for: list[tuple[int, int]]
    """(another class, photos whose first answer it was), most photos first."""


def accuracy(predict: Predict, data: Dataset, batch: int = 64) -> Accuracy:
    """Scores `predict`: (N, H, W, 3) uint8 -> (N, classes) logits. Ties count against it."""
    return score(logits(predict, data.images, batch), data.targets)


def logits(predict: Predict, images: NDArray[np.uint8], batch: int = 64) -> NDArray[np.float32]:
    """`predict` over all of the images, `batch` at a time."""
    starts = range(0, len(images), batch)
    return np.concatenate([predict(images[i : i + batch]) for i in starts])


def score(outputs: Outputs, targets: NDArray[np.int64]) -> Accuracy:
    return _accuracy(_ranks(outputs, targets))


def class_scores(outputs: Outputs, targets: NDArray[np.int64]) -> list[ClassScore]:
    """A score for each class that has photos, in the order of the classes."""
    ranks = _ranks(outputs, targets)
    scores = []
    for target in np.unique(targets).tolist():
        own = targets == target
        others = outputs[own & (ranks > 0)]  # a copy
        others[:, target] = -np.inf  # where there is a tie, the other class counts
        answers = Counter(others.argmax(1).tolist())
        taken_for = sorted(answers.items(), key=lambda item: (-item[1], item[0]))
        scores.append(ClassScore(target, _accuracy(ranks[own]), taken_for))
    return scores


def worst(scores: list[ClassScore], most: int) -> list[ClassScore]:
    """The classes that are known least: by top-1, then by top-5, then in the order given."""
    return sorted(scores, key=lambda s: (s.accuracy.top1, s.accuracy.top5))[:most]


def ensemble(members: Sequence[Outputs]) -> Outputs:
    """The mean of (N, classes) probabilities, as of the five CNNs of Krizhevsky et al. 2012
    (section 6)."""
    return sum(members[1:], start=members[0]) / len(members)


def ten_views(squares: NDArray[np.uint8], crop: int) -> NDArray[np.uint8]:
    """(N, side, side, 3) -> (N, 10, crop, crop, 3): the four corners and the centre, then their
    mirror images in the same order (Krizhevsky et al. 2012, section 4.1)."""
    far = squares.shape[1] - crop
    assert far >= 0, "a view is no larger than the square that it is cut out of"
    places = [(0, 0), (0, far), (far, 0), (far, far), (far // 2, far // 2)]
    views = np.stack([squares[:, y : y + crop, x : x + crop] for y, x in places], 1)
    return np.concatenate([views, views[:, :, :, ::-1]], 1)


def _ranks(outputs: Outputs, targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,): how many other classes are not less likely than the photo's own."""
    own = outputs[np.arange(len(targets)), targets, None]
    ranks: NDArray[np.int64] = (~(outputs < own)).sum(1) - 1  # so that NaN counts against it too
    return ranks


def _accuracy(ranks: NDArray[np.int64]) -> Accuracy:
    return Accuracy(float(np.mean(ranks < 1)), float(np.mean(ranks < 5)), len(ranks))
