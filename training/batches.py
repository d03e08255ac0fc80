"""The batches of an epoch: every photo is in one of them."""

from dataclasses import dataclass

from training.network import ARCHITECTURES
from training.recipe import Recipe


@dataclass(frozen=True)
class Batches:
    """`photos` photos in batches of `size`, the last of which is smaller if need be.

    A rest of fewer than `least` photos joins the batch before it.
    """

    photos: int
    size: int
    least: int = 1

    @classmethod
    def of(cls, recipe: Recipe, photos: int, processes: int) -> "Batches":
        """Each process has a photo of each batch. With batch norm it has two, and a batch has at
        least an eighth of the usual photos: mean and variance of fewer would be mostly noise.
        """
        norm = ARCHITECTURES[recipe.arch].batch_norm
        least = max(2 * processes, recipe.batch // 8) if norm else processes
        return cls(photos, recipe.batch, least)

    def __len__(self) -> int:
        return self.photos // self.size + (self.photos % self.size >= self.least)

    @property
    def counts(self) -> list[int]:
        return [self.count(index) for index in range(len(self))]

    def place(self, index: int) -> slice:
        """Where batch `index` is in the order of the epoch."""
        first = index * self.size
        return slice(first, self.photos if index == len(self) - 1 else first + self.size)

    def count(self, index: int) -> int:
        """The number of photos of batch `index`."""
        place = self.place(index)
        return int(place.stop - place.start)
