"""Photos with classes, decoded once and packed as uint8 squares in a memory-mapped file."""

import json
import logging
import os
import shutil
import tempfile
import zipfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from alexnet.labels import Label, Labels
from alexnet.preprocess import InvalidImage, preprocess
from alexnet.spec import Preprocess
from training.photos import PhotoFile, Photos, photo_files

__all__ = ["Dataset", "PhotoFile", "class_list", "load", "load_unlabelled", "pack_bytes"]

log = logging.getLogger(__name__)

FORMAT = 1
_AHEAD = 256  # photos being decoded or waiting to be written
_SAMPLE = 200  # photos whose pixels are part of a digest


@dataclass(frozen=True)
class Dataset:
    """Photos with their classes; the index of a label is the index of its logit."""

    images: NDArray[np.uint8]
    """(N, side, side, 3), mapped from a file, so that it lives in the page cache."""
    targets: NDArray[np.int64]
    """(N,); -1 for photos without a class."""
    labels: Labels
    skipped: tuple[str, ...] = ()
    """Names of the photos that could not be read."""
    packed_sha256: str = ""
    """Of the pixels, if it was kept when they were packed."""

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def known(self) -> list[int]:
        """The classes that have photos here, ascending."""
        return np.unique(self.targets[self.targets >= 0]).tolist()

    @cached_property
    def sha256(self) -> str:
        """Of the pixels, in their order: soft labels belong to exactly these."""
        if self.packed_sha256:
            return self.packed_sha256
        digest = sha256()
        for start in range(0, len(self), _AHEAD):
            digest.update(np.ascontiguousarray(self.images[start : start + _AHEAD]).data)
        return digest.hexdigest()

    def digest(self) -> str:
        """Differs for other photos, classes or another order; of some of the pixels, spread over
        all photos, so that it takes less than a second."""
        hashed = sha256(self.labels.to_tsv().encode() + self.targets.tobytes())
        for image in self.images[:: max(1, len(self) // _SAMPLE)]:
            hashed.update(image.tobytes())
        return hashed.hexdigest()


def class_list(groups: set[str]) -> Labels:
    """ImageNet's 1000 classes if every group is one of their synsets, else the groups, sorted."""
    imagenet = Labels.imagenet()
    if groups <= imagenet.index.keys():
        return imagenet
    return Labels(tuple(Label(group, group) for group in sorted(groups)))


def load(
    sources: list[Path] | Photos,
    spec: Preprocess,
    labels: Labels | None = None,
    cache: Path | None = None,
    *,
    classes: bool = True,
) -> Dataset:
    """Decodes every photo to `spec`'s crop; with a `cache` folder only the first time.

    A photo that cannot be read is logged, counted and skipped. Without `classes`, the names of
    folders mean nothing, and `labels` must be given. Raises ValueError.
    """
    photos = sources if isinstance(sources, Photos) else Photos(sources)
    if cache is None:
        with tempfile.TemporaryFile() as file:
            facts = _pack(photos, spec, file)
            return _dataset(file, facts, spec, photos, labels, classes=classes)
    folder = _pack_folder(photos, spec, cache)
    if not folder.exists():
        _fill(folder, photos, spec)
    facts = json.loads((folder / "photos.json").read_text(encoding="utf-8"))
    with (folder / "images.u8").open("rb") as file:
        return _dataset(file, facts, spec, photos, labels, classes=classes)


def pack_bytes(photos: Photos, spec: Preprocess, cache: Path) -> int:
    """What `load` would write to `cache`: 0 if the pack is there. Photos in shards are not counted:
    how many they hold is known only when they are read."""
    if _pack_folder(photos, spec, cache).exists():
        return 0
    return (photos.count or 0) * 3 * spec.crop**2


def _pack_folder(photos: Photos, spec: Preprocess, cache: Path) -> Path:
    key = sha256(f"{FORMAT}|{spec.settings()}|{photos.fingerprint}".encode()).hexdigest()[:16]
    return cache / key


def load_unlabelled(sources: list[Path], spec: Preprocess, most: int) -> NDArray[np.uint8]:
    """(N, crop, crop, 3): at most `most` photos, evenly spread over the folders."""
    files = photo_files(sources)
    chosen = np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int)
    crops = [crop for _, crop in _decode([files[i] for i in chosen], spec, []) if crop is not None]
    if not crops:
        raise _unreadable_error(", ".join(map(str, sources)))
    return np.stack(crops)


def _fill(folder: Path, photos: Photos, spec: Preprocess) -> None:
    """Writes a temporary folder and renames it, so that `folder` is complete or absent."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    log.info("packing photos at %d px into %s", spec.crop, folder)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix="unfinished-"))
    try:
        with (unfinished / "images.u8").open("wb") as file:
            facts = _pack(photos, spec, file)
            os.fsync(file.fileno())
        (unfinished / "photos.json").write_text(json.dumps(facts), encoding="utf-8")
        try:
            unfinished.rename(folder)
        except OSError:  # another process was faster
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _pack(photos: Photos, spec: Preprocess, file: BinaryIO) -> dict[str, Any]:
    """Writes the crops to `file`; returns `groups`, the class of each, the names of those `skipped`
    and the `sha256` of all pixels."""
    groups: list[str] = []
    skipped: list[str] = []
    digest = sha256()
    bar = tqdm(_decode(photos, spec, skipped), "decoding", photos.count, leave=False, unit="photo")
    for photo, crop in bar:
        if crop is not None:
            groups.append(photo.group)
            file.write(crop.data)
            digest.update(crop.data)
    file.flush()
    if skipped:
        log.warning("%d of %d photos could not be read", len(skipped), len(skipped) + len(groups))
    return {"groups": groups, "skipped": skipped, "sha256": digest.hexdigest()}


def _dataset(
    file: BinaryIO,
    facts: dict[str, Any],
    spec: Preprocess,
    photos: Photos,
    labels: Labels | None,
    *,
    classes: bool,
) -> Dataset:
    groups = facts["groups"]
    if not groups:
        raise _unreadable_error(photos.names)
    labels = labels or class_list(set(groups))
    unknown = set(groups) - labels.index.keys()
    if unknown and classes:
        raise ValueError(f"{len(unknown)} folders are no known class, such as {min(unknown)!r}")
    # "c", copy on write: torch warns of arrays that are not writable
    shape = (len(groups), spec.crop, spec.crop, 3)
    images: NDArray[np.uint8] = np.memmap(file, np.uint8, "c", shape=shape)
    targets = np.array([labels.index[g] if classes else -1 for g in groups], np.int64)
    # A pack of an earlier version has no hash.
    return Dataset(images, targets, labels, tuple(facts["skipped"]), facts.get("sha256", ""))


def _unreadable_error(names: str) -> ValueError:
    return ValueError(f"none of the photos in {names} could be read")


def _decode(
    photos: Iterable[PhotoFile], spec: Preprocess, skipped: list[str]
) -> Iterator[tuple[PhotoFile, NDArray[np.uint8] | None]]:
    """Each photo and its crop, in order; unreadable ones give None and are added to `skipped`."""

    def crop(photo: PhotoFile) -> NDArray[np.uint8]:
        return preprocess(photo.read(), spec).crop

    waiting: deque[tuple[PhotoFile, Future[NDArray[np.uint8]]]] = deque()

    def next_crop() -> tuple[PhotoFile, NDArray[np.uint8] | None]:
        photo, future = waiting.popleft()
        try:
            return photo, future.result()
        except (InvalidImage, OSError, zipfile.BadZipFile, zlib.error) as error:
            log.warning("skipped %s: %s", photo.name, error)
            skipped.append(photo.name)
            return photo, None

    with ThreadPoolExecutor() as pool:
        for photo in photos:
            waiting.append((photo, pool.submit(crop, photo)))
            if len(waiting) >= _AHEAD:
                yield next_crop()
        while waiting:
            yield next_crop()
