"""Soft labels: a teacher's answers to the views of photos, the best k classes of each.

One safetensors file, which training maps into memory:

`classes`   (photos, views, k) int16: indices in the teacher's class list, most probable first
`shares`    (photos, views, k) float16: their probabilities
`rest`      (photos, views) float16: the sum of the probabilities of all other classes

330,000 photos with 2 views and k = 10 are 28 MB. The header says where they come from (`Origin`).
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.bundle import sha256
from alexnet.labels import Labels
from training.checkpoint import Checkpoint, CheckpointError
from training.views import Boxes, boxes

MOST_CLASSES = 1 << 15  # of a teacher: int16, in which torch can index, as in uint16 it cannot


@dataclass(frozen=True)
class Origin:
    """What soft labels are of: the teacher, the photos, and how their views were drawn."""

    teacher: str
    teacher_sha256: str
    classes: str
    """The teacher's class list, as `Labels.to_tsv` writes it."""
    photos_sha256: str
    """Of the pixels of the packed photos, in their order."""
    photos: int
    views: int
    seed: int
    view: tuple[float, float]
    """Views span these fractions of the packed side."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def drawing(self) -> tuple[Any, ...]:
        """What the views of a photo depend on."""
        return self.views, self.seed, self.view

    def boxes(self, photos: Tensor, numbers: Tensor, side: int) -> Boxes:
        """The crops of the views `numbers` (N,) of `photos` (N,) of `side` px."""
        return boxes(self.seed, photos.numpy(), numbers.numpy(), side, self.view)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Origin":
        return cls(**{**data, "view": tuple(data["view"])})


class Answers(NamedTuple):
    """A teacher's answers to N views, with the network's indices of the classes."""

    classes: Tensor
    """(N, k) int64"""
    shares: Tensor
    """(N, k) float32"""
    rest: Tensor
    """(N,) float32, of all other classes of the teacher"""
    known: Tensor
    """(classes of the network,) bool: those that the teacher has."""


@dataclass(frozen=True)
class SoftLabels:
    origin: Origin
    classes: Tensor
    shares: Tensor
    rest: Tensor
    places: Tensor
    """(classes of the teacher,) int64: where the network has them."""
    known: Tensor
    """(classes of the network,) bool: those that the teacher has."""

    def __len__(self) -> int:
        return len(self.classes)

    @classmethod
    def of(cls, origin: Origin, classes: Tensor, shares: Tensor, rest: Tensor) -> "SoftLabels":
        """For a network with the classes of the teacher; raises ValueError."""
        shape, count = (origin.photos, origin.views), len(Labels.from_tsv(origin.classes))
        if not (shape == rest.shape == classes.shape[:2] and classes.shape == shares.shape):
            raise ValueError("its tensors do not fit each other")
        every = torch.ones(count, dtype=torch.bool)
        return cls(origin, classes, shares, rest, torch.arange(count), every)

    @classmethod
    def load(cls, path: Path) -> "SoftLabels":
        """Maps the file into memory; raises CheckpointError."""
        checkpoint = Checkpoint.load(path)
        try:
            origin = Origin.from_json(checkpoint.facts["origin"])
            return cls.of(origin, *(checkpoint.tensors[n] for n in ("classes", "shares", "rest")))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} holds no soft labels: {error}") from None

    def save(self, path: Path) -> None:
        """Replaces the file atomically."""
        tensors = {"classes": self.classes, "shares": self.shares, "rest": self.rest}
        Checkpoint(tensors, {"origin": self.origin.to_json()}).save(path)

    @property
    def labels(self) -> Labels:
        """The teacher's class list."""
        return Labels.from_tsv(self.origin.classes)

    @property
    def sha256(self) -> str:
        """Of the origin: equal for the same teacher, photos and views."""
        return sha256(json.dumps(self.origin.to_json(), sort_keys=True).encode())

    def among(self, labels: Labels) -> "SoftLabels":
        """The same for a network with these classes, which include the teacher's."""
        places = torch.tensor([labels.index[row.synset] for row in self.labels.rows])
        known = torch.zeros(len(labels), dtype=torch.bool)
        known[places] = True
        return replace(self, places=places, known=known)

    def answers(self, photos: Tensor, numbers: Tensor) -> Answers:
        """Reads only the rows that are asked for."""
        classes = self.places[self.classes[photos, numbers].long()]
        shares, rest = self.shares[photos, numbers], self.rest[photos, numbers]
        return Answers(classes, shares.float(), rest.float(), self.known)

    def first(self) -> Tensor:
        """(photos,) int64: the class that the teacher is most sure of in any view of a photo."""
        best = self.shares[:, :, 0].float().argmax(1)
        return self.places[self.classes[torch.arange(len(self)), best, 0].long()]

    def named(self) -> list[int]:
        """The classes, ascending, that have at least half of an answer to some photo."""
        sure = self.shares[:, :, 0] >= 0.5
        return self.places[self.classes[:, :, 0][sure].long()].unique().tolist()


def best(probabilities: NDArray[np.float32], k: int) -> tuple[Tensor, Tensor, Tensor]:
    """(N, classes) -> classes (N, k) int16, shares (N, k) float16, rest (N,) float16; k may be
    larger than the number of classes."""
    k = min(k, probabilities.shape[1])
    shares, classes = torch.from_numpy(probabilities).topk(k)
    rest = (1 - shares.sum(1, dtype=torch.float64)).clamp(min=0)
    return classes.to(torch.int16), shares.half(), rest.half()
