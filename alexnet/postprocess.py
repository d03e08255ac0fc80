"""Logits -> probabilities -> the most probable classes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Ranked:
    index: int
    probability: float


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., classes) -> probabilities of the same shape; the largest logit is subtracted first."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities: NDArray[np.float32] = powers / powers.sum(-1, keepdims=True)
    return probabilities


def top_k(probabilities: NDArray[np.float32], k: int) -> list[Ranked]:
    """The k most probable of (classes,), the lower index first among equals."""
    # Sorted is only what may be among them: a sort of 1000 takes 0.1 ms.
    k = min(k, len(probabilities))
    least = np.partition(probabilities, -k)[-k]
    candidates = np.flatnonzero(probabilities >= least)
    order = candidates[np.argsort(-probabilities[candidates], kind="stable")][:k]
    return [Ranked(int(i), float(probabilities[i])) for i in order]
