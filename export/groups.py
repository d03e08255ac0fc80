"""The score of each group of classes, such as `dogs` or `vehicles`: where a network is weak."""

from collections.abc import Sequence
from typing import NamedTuple

from alexnet import wordnet
from alexnet.labels import Labels
from training.evaluate import ClassScore, Score


class GroupScore(NamedTuple):
    name: str
    classes: int
    """Those that have photos."""
    score: Score


def score_groups(classes: Sequence[ClassScore], labels: Labels) -> list[GroupScore]:
    """The worst first, over all photos of a group; none where the classes are not ImageNet's."""
    members: dict[str, list[Score]] = {}
    for c in classes:
        synset = labels[c.target].synset
        if wordnet.path(synset):
            members.setdefault(wordnet.group(synset), []).append(c.score)
    groups = [GroupScore(name, len(own), _together(own)) for name, own in members.items()]
    return sorted(groups, key=lambda g: (g.score.top1, g.score.top5, g.name))


def _together(scores: list[Score]) -> Score:
    photos = sum(s.photos for s in scores)
    top1, top5 = (sum(s[i] * s.photos for s in scores) / photos for i in (0, 1))
    return Score(top1, top5, photos)
