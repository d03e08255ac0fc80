"""Top-1 and top-5 of any classifier, from its logits or probabilities."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alexnet.manifest import accuracy_in_words
from training.data import Dataset

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Outputs = NDArray[np.floating[Any]]
"""(N, classes) logits or probabilities: larger is more likely."""


class Score(NamedTuple):
    top1: float
    top5: float
    photos: int

    def in_words(self, classes: int) -> str:
        """For people, of a network that knows so many classes."""
        return f"{accuracy_in_words(self.top1, self.top5, classes)} of {self.photos:,} photos"

    @property
    def standard_error(self) -> float:
        """Of top-1 as the mean of `photos` independent draws: sqrt(p (1 - p) / n)."""
        return float((self.top1 * (1 - self.top1) / self.photos) ** 0.5)


class ClassScore(NamedTuple):
    target: int
    score: Score
    taken_for: list[tuple[int, int]]
    """(wrong class, number of photos that were given it), the most frequent first."""


def evaluate(predict: Predict, data: Dataset, batch: int = 64) -> Score:
    """Scores `predict`: (N, H, W, 3) uint8 -> (N, classes) logits. Ties count against it."""
    return score(infer_all(predict, data.images, batch), data.targets)


def infer_all(predict: Predict, images: NDArray[np.uint8], batch: int = 64) -> NDArray[np.float32]:
    """`predict` over all images, `batch` at a time."""
    starts = range(0, len(images), batch)
    return np.concatenate([predict(images[i : i + batch]) for i in starts])


def score(outputs: Outputs, targets: NDArray[np.int64]) -> Score:
    return _score(_ranks(outputs, targets))


def score_classes(outputs: Outputs, targets: NDArray[np.int64]) -> list[ClassScore]:
    """A score for each class that has photos, in the order of the classes."""
    ranks = _ranks(outputs, targets)
    scores = []
    for target in np.unique(targets).tolist():
        own = targets == target
        others = outputs[own & (ranks > 0)]  # a copy
        others[:, target] = -np.inf  # in a tie the other class wins
        answers = Counter(others.argmax(1).tolist())
        taken_for = sorted(answers.items(), key=lambda item: (-item[1], item[0]))
        scores.append(ClassScore(target, _score(ranks[own]), taken_for))
    return scores


def worst_classes(scores: list[ClassScore], most: int) -> list[ClassScore]:
    """The `most` worst classes: by top-1, then by top-5, then in the given order."""
    return sorted(scores, key=lambda s: (s.score.top1, s.score.top5))[:most]


def average(members: Sequence[Outputs]) -> Outputs:
    """The mean of (N, classes) probabilities, as for the five CNNs of Krizhevsky et al. 2012
    (section 6)."""
    return sum(members[1:], start=members[0]) / len(members)


def _ranks(outputs: Outputs, targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,): the number of other classes at least as likely as the photo's own."""
    own = outputs[np.arange(len(targets)), targets, None]
    ranks: NDArray[np.int64] = (~(outputs < own)).sum(1) - 1  # not >=, so that NaN counts as a miss
    return ranks


def _score(ranks: NDArray[np.int64]) -> Score:
    return Score(float(np.mean(ranks < 1)), float(np.mean(ranks < 5)), len(ranks))
