"""The part of the photos that is held out to score the training on the rest."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass

from training.listing import PhotoFile


@dataclass(frozen=True)
class Part:
    """One of the two parts of a split that depends on the photos' names only.

    The same photos are split alike in every run, wherever their folder lies; a new photo moves at
    most one other of its class to the other part.
    """

    fraction: float
    """Of the photos of each class that are held out: between 0 and 1."""
    held_out: bool

    def of(self, photos: list[PhotoFile]) -> list[PhotoFile]:
        """The photos of this part, in their order.

        Of two photos of a class or more, at least one is held out and one is not; a single one is
        not held out.
        """
        classes: dict[str, list[PhotoFile]] = defaultdict(list)
        for photo in photos:
            classes[photo.group].append(photo)
        away: set[int] = set()
        for own in classes.values():
            count = max(1, round(self.fraction * len(own)))
            by_hash = sorted(own, key=lambda photo: (_place(photo), photo.name))
            away |= {id(photo) for photo in by_hash[: min(count, len(own) - 1)]}
        return [photo for photo in photos if (id(photo) in away) == self.held_out]

    def has(self, photo: PhotoFile) -> bool:
        """Whether a photo of a shard is in this part: shards are read once, so their classes are
        not counted first, and the fraction holds on average."""
        return (_place(photo) < self.fraction) == self.held_out


def _place(photo: PhotoFile) -> float:
    """Between 0 and 1, by the name below the folder of the class."""
    _, _, name = f"/{photo.name.replace('!', '/')}".rpartition(f"/{photo.group}/")
    digest = hashlib.sha256(f"{photo.group}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
