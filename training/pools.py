"""What a batch is drawn from: pools of photos, each with a share of every batch.

The photos of a pool have classes, a teacher's answers, or both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alexnet.labels import Labels
from alexnet.spec import Preprocess
from training.data import Dataset, class_list, load
from training.photos import Photos
from training.softlabels import SoftLabels

MOST_REPEATS = 4.0  # a rare class may be a mistake of the teacher, so it is not repeated at will


@dataclass(frozen=True)
class Pool:
    data: Dataset
    soft: tuple[SoftLabels, ...] = ()
    """The answers of teachers to the same views of these photos."""
    share: float = 1.0
    """Of the photos of a batch; those of all pools sum to 1."""

    def epoch(self, count: int, balance: float, generator: torch.Generator) -> Tensor:
        """(count,) int64: the photos of an epoch in their order.

        Each is drawn equally often, give or take one; with `balance` those of rare classes, by the
        teacher's answers, are drawn more often.
        """
        size = len(self.data)
        if not balance or not self.soft:
            rounds = range(-(-count // size))
            orders = [torch.randperm(size, generator=generator) for _ in rounds]
            return torch.cat(orders)[:count]
        weights = balanced_weights(self.soft[0].first(), balance)
        # Systematic sampling: a photo with an expectation of 1.3 is drawn once or twice.
        shuffled = torch.randperm(size, generator=generator)
        ends = weights[shuffled].cumsum(0) * (count / weights.sum())
        start = torch.rand((), generator=generator, dtype=torch.float64)
        places = torch.searchsorted(ends, torch.arange(count) + start, right=True)
        drawn = shuffled[places.clamp(max=size - 1)]
        return drawn[torch.randperm(count, generator=generator)]


def balanced_weights(classes: Tensor, balance: float) -> Tensor:
    """(photos,) classes -> (photos,) float64: how often each photo is drawn, 1 on average before
    the limit.

    In proportion to (photos of its class) ** -balance: 1 makes all classes equally frequent, 0.5 is
    square-root sampling (Mahajan et al. 2018, arXiv 1805.00932, section 2.2).
    """
    weights = classes.bincount()[classes].double() ** -balance
    return (weights / weights.mean()).clamp(max=MOST_REPEATS)


def split(batch: int, pools: Sequence[Pool]) -> list[int]:
    """The photos of each pool in a batch; raises ValueError if a pool has none."""
    counts = [int(batch * pool.share) for pool in pools]
    left = sorted(range(len(pools)), key=lambda i: counts[i] - batch * pools[i].share)
    for i in left[: batch - sum(counts)]:
        counts[i] += 1
    if min(counts) == 0:
        raise ValueError(f"a share is too small: it has no photo in a batch of {batch}")
    return counts


def open_pools(
    train: list[Path] | Photos,
    unlabelled: Sequence[list[Path] | Photos],
    labels: list[Path],
    shares: list[float],
    spec: Preprocess,
    cache: Path | None,
) -> tuple[Dataset, list[Pool]]:
    """The photos with classes (maybe none), and all pools: these first, then each of `unlabelled`.

    `labels` are files of soft labels, each for the pool with its photos. `shares` has
    a number for each pool without classes. The network's classes are those of the folders and of
    the teachers. Raises ValueError, CheckpointError.
    """
    named = load(train, spec, cache=cache) if train else None
    if named is not None and not unlabelled and not labels:
        return named, [Pool(named)]
    soft = [SoftLabels.load(path) for path in labels]
    if not soft:
        raise ValueError("photos without classes need a teacher's answers: pass --labels")
    groups = {row.synset for s in soft for row in s.labels.rows}
    if named is not None:
        groups |= {named.labels[i].synset for i in named.known}
    classes = class_list(groups)
    rest = [load(sources, spec, classes, cache, classes=False) for sources in unlabelled]
    data = _no_photos(spec, classes) if named is None else _relabelled(named, classes)
    pools = [Pool(d) for d in (data, *rest) if len(d)]
    for path, answers in zip(labels, soft, strict=True):
        pools = _assign(answers.among(classes), path, pools)
    for pool, sources in zip(pools[len(pools) - len(rest) :], unlabelled, strict=True):
        if not pool.soft:
            raise ValueError(f"no labels are of the photos in {_names(sources)}")
    return data, _shared(pools, shares, len(rest))


def teacher_classes(labels: list[Path]) -> frozenset[str]:
    """The synsets of the teachers of these files; raises CheckpointError."""
    return frozenset(row.synset for path in labels for row in SoftLabels.load(path).labels.rows)


def taught(pools: Sequence[Pool]) -> dict[str, Any] | None:
    """What the network learns from teachers, beside the classes of its labelled photos."""
    softs = [soft for pool in pools for soft in pool.soft]
    if not softs:
        return None
    known = {i for pool in pools for i in pool.data.known}
    without = [p for p in pools if p.soft and not p.data.known]
    return {
        "teacher": ", ".join(dict.fromkeys(s.origin.teacher for s in softs)),
        "photos": sum(len(p.data) for p in without),
        "classes": sorted({i for s in softs for i in s.named()} - known),
    }


def describe(pools: Sequence[Pool]) -> str:
    """What a teacher adds to the photos with classes; empty without one."""
    facts = taught(pools)
    if facts is None:
        return ""
    added = f", and {facts['photos']:,} without a class" if facts["photos"] else ""
    more = f", {len(facts['classes'])} more classes" if facts["classes"] else ""
    return f"{added}; taught by {facts['teacher']}{more}"


def _names(sources: list[Path] | Photos) -> str:
    return sources.names if isinstance(sources, Photos) else ", ".join(map(str, sources))


def _relabelled(data: Dataset, labels: Labels) -> Dataset:
    places = np.array([labels.index.get(row.synset, -1) for row in data.labels.rows])
    return replace(data, targets=places[data.targets], labels=labels)


def _no_photos(spec: Preprocess, labels: Labels) -> Dataset:
    images = np.zeros((0, spec.crop, spec.crop, 3), np.uint8)
    return Dataset(images, np.zeros(0, np.int64), labels)


def _assign(soft: SoftLabels, path: Path, pools: list[Pool]) -> list[Pool]:
    """Gives soft labels to the pool with their photos."""
    mine = [i for i, pool in enumerate(pools) if pool.data.sha256 == soft.origin.photos_sha256]
    if not mine:
        raise ValueError(
            f"{path} has labels of {soft.origin.photos:,} other photos, or of the same at another "
            "size: give alexnet-label the sources of one --unlabelled, and the same --recipe"
        )
    others = [other.origin for i in mine for other in pools[i].soft]
    if any(origin.drawing != soft.origin.drawing for origin in others):
        raise ValueError(
            f"{path} has other views of its photos than labels given before it: with the same "
            "--recipe and --views, alexnet-label asks each teacher about the same"
        )
    return [replace(p, soft=(*p.soft, soft)) if i in mine else p for i, p in enumerate(pools)]


def _shared(pools: list[Pool], shares: list[float], unlabelled: int) -> list[Pool]:
    """The pools with their shares: as given, or in proportion to their photos."""
    if not shares:
        shares = [float(len(pool.data)) for pool in pools]
    elif len(shares) != unlabelled or min(shares) <= 0:
        raise ValueError(f"--share takes a number above 0 for each --unlabelled: {unlabelled}")
    elif len(pools) > unlabelled:
        if sum(shares) >= 1:
            raise ValueError(f"--share {sum(shares):g} leaves no photos with classes in a batch")
        shares = [1 - sum(shares), *shares]
    total = sum(shares)
    return [replace(pool, share=share / total) for pool, share in zip(pools, shares, strict=True)]
