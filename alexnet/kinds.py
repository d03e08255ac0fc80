"""What a photo shows in general, where the classes disagree in particular: guesses that are of one
kind add up. 0.3 beagle and 0.4 basset are 0.7 dog."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alexnet.labels import Labels
from alexnet.wordnet import Node, path

MAJORITY = 0.5
COMMON = 2 / 3
"""What more of the classes are a kind of, as `object`, says nothing."""


@dataclass(frozen=True)
class Kind:
    synset: str
    name: str
    probability: float
    """Of all the classes that are of this kind."""


class Kinds:
    """Of a class list, by WordNet; classes that ImageNet does not have are of no kind."""

    def __init__(self, labels: Labels):
        paths = [path(label.synset) for label in labels.rows]
        members: dict[Node, list[int]] = {}
        for index, nodes in enumerate(paths):
            for node in nodes:
                members.setdefault(node, []).append(index)
        # The most general first; of kinds with the same classes the most particular is kept.
        kept = {
            tuple(classes): node
            for node, classes in members.items()
            if len(classes) <= COMMON * len(labels)
        }
        self._nodes = [kept[classes] for classes in sorted(kept, key=lambda c: (-len(c), c))]
        rows = {node: row for row, node in enumerate(self._nodes)}
        pairs = [(i, rows[n]) for i, nodes in enumerate(paths) for n in nodes if n in rows]
        self._classes, self._rows = np.array(pairs, np.intp).reshape(-1, 2).T

    def of(self, probabilities: NDArray[np.float32]) -> list[Kind]:
        """Of (classes,): from the most general kind to the most particular, the class itself last,
        each more probable than all others together. Empty where nothing is."""
        sums = np.bincount(self._rows, probabilities[self._classes], len(self._nodes))
        # Two kinds of a majority each have a class in common, so one is a kind of the other.
        likely = np.flatnonzero(sums > MAJORITY)
        return [Kind(n.synset, n.name, float(sums[i])) for i in likely for n in [self._nodes[i]]]
