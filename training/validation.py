"""What the network answers on the validation photos, over all processes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from alexnet.labels import Labels
from alexnet.spec import Preprocess
from training.data import Dataset, load
from training.evaluate import Predict, Score, infer_all, score
from training.photos import Photos
from training.ranks import Ranks


@dataclass(frozen=True)
class Outcome:
    """The accuracy on all validation photos, and where it went."""

    score: Score
    loss: float
    """By the targets of training (label smoothing included), so that the two can be compared."""
    confusion: NDArray[np.int64]
    """(classes, classes): photos of the row's class that were given the column's."""
    photos: str | None = None
    """Differs for other photos, or the same at another size; None: not known."""

    @property
    def merit(self) -> tuple[float, float]:
        """The larger, the better: by top-1, and among equals by the loss."""
        return self.score.top1, -self.loss


class Validation:
    """The validation photos of a run, of which each process scores its part."""

    def __init__(
        self,
        sources: list[Path] | Photos,
        labels: Labels,
        targets: Tensor,
        ranks: Ranks,
        part: tuple[int, int],
        cache: Path | None = None,
    ):
        self.sources, self.labels, self.cache = sources, labels, cache
        self.targets = targets.cpu()
        """(classes, classes): row i is the target for class i, as in training."""
        self.ranks, self.part = ranks, part
        self._loaded: tuple[Preprocess, Dataset] | None = None

    def __call__(self, predict: Predict, px: int) -> Outcome:
        """Scores the central crops of `px`; all processes must call it."""
        data = self.load(px)
        rank, count = self.part
        images, targets = data.images[rank::count], data.targets[rank::count]
        outputs = infer_all(predict, images)
        own, classes = score(outputs, targets), len(self.labels)
        loss = F.cross_entropy(
            torch.from_numpy(outputs).float(), self.targets[torch.from_numpy(targets)],
            reduction="sum",
        )  # fmt: skip
        pairs = np.bincount(targets * classes + outputs.argmax(1), minlength=classes**2)
        photos = len(targets)
        sums = torch.tensor([own.top1 * photos, own.top5 * photos, loss.item(), photos]).double()
        confusion = torch.from_numpy(pairs).double()
        together = self.ranks.total if count > 1 else self.ranks.broadcast
        if self.ranks.count > 1:  # float32: MPS has no other
            sums, confusion = (
                together(t.float().to(self.ranks.device)).cpu().double() for t in (sums, confusion)
            )
        top1, top5, loss_sum, photos = sums.tolist()
        counted = confusion.round().long().numpy().reshape(classes, classes)
        result = Score(top1 / photos, top5 / photos, round(photos))
        return Outcome(result, loss_sum / photos, counted, data.digest())

    def load(self, px: int) -> Dataset:
        """The central crops of `px` of all photos; again only when the size changes. Raises
        ValueError if none can be read, or fewer than there are processes."""
        spec = Preprocess().at(px)
        if self._loaded is None or self._loaded[0] != spec:
            with self.ranks.local_first():
                data = load(self.sources, spec, self.labels, self.cache)
            if len(data) < self.part[1]:
                raise ValueError(
                    f"{len(data)} validation photos are fewer than {self.part[1]} processes"
                )
            self._loaded = spec, data
        return self._loaded[1]
