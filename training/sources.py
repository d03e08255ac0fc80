"""The sources of a run: which photos train, and which score."""

from dataclasses import dataclass
from pathlib import Path

from training.photos import TARS, Part, Photos

HELD_OUT = 0.2
"""The fraction of the photos that scores where no validation photos are given."""
TRAIN, VAL = ("train", "training"), ("val", "valid", "validation", "test")


@dataclass(frozen=True)
class Sources:
    """Directories, zips and tar shards; the two parts of the same ones if there is a fraction."""

    train: list[Path]
    val: list[Path]
    fraction: float | None = None
    """Of each class that is held out to score."""

    def photos(self) -> tuple[Photos | None, Photos]:
        """Those that train, None without a source, and those that score; raises ValueError where
        there are none at all."""
        if self.fraction is None:
            return Photos(self.train) if self.train else None, Photos(self.val)
        parts = Part(self.fraction, held_out=False), Part(self.fraction, held_out=True)
        photos = Photos(self.train)
        return photos.of(parts[0]), photos.of(parts[1])


def resolve(train: list[Path], val: list[Path], fraction: float | None) -> Sources:
    """What the command line means; raises ValueError for what cannot be meant.

    A single folder that holds `train` and `val` means these two, unless there is a `val` already.
    """
    if val and fraction is not None:
        raise ValueError("--val names the photos that score: leave out --val-fraction, or --val")
    if fraction is not None and not 0 < fraction < 1:
        raise ValueError(f"--val-fraction {fraction} is no fraction between 0 and 1")
    if len(train) == 1 and not val and fraction is None:
        parts = _subfolder(train[0], TRAIN), _subfolder(train[0], VAL)
        if parts[0] and parts[1]:
            return Sources([parts[0]], [parts[1]])
    if not val:
        return Sources(train, train, HELD_OUT if fraction is None else fraction)
    for outer in train:
        for inner in val:
            if outer.resolve() in inner.resolve().parents:
                raise ValueError(
                    f"--train {outer} contains --val {inner}: photos that score must not train"
                )
            if inner.resolve() in outer.resolve().parents:
                raise ValueError(
                    f"--val {inner} contains --train {outer}: photos that train must not score"
                )
    return Sources(train, val)


def run_name(sources: list[Path]) -> str:
    """`photos` for photos/, photos.zip and photos/train: what a run of them is called."""
    first = sources[0].absolute()
    if first.name.lower() in TRAIN and first.parent.name:
        first = first.parent
    name = first.name
    for suffix in (*TARS, ".zip"):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    return name or "latest"


def _subfolder(folder: Path, names: tuple[str, ...]) -> Path | None:
    if not folder.is_dir():
        return None
    return next((path for name in names if (path := folder / name).is_dir()), None)
