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
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from alexnet.labels import Label, Labels
from alexnet.preprocess import InvalidImage, preprocess
from alexnet.spec import Preprocess
from training.photos import PhotoFile, Photos, photo_files

log = logging.getLogger(__name__)

FORMAT = 1
_AHEAD = 256  # photos being decoded or waiting to be written


@dataclass(frozen=True)
class Dataset:
    """Photos with their classes; the index of a label is the index of its logit."""

    images: NDArray[np.uint8]
    """(N, side, side, 3), mapped from a file, so that it lives in the page cache."""
    targets: NDArray[np.int64]
    labels: Labels
    skipped: tuple[str, ...] = ()
    """Names of the photos that could not be read."""

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def known(self) -> list[int]:
        """The classes that have photos here, ascending."""
        return np.unique(self.targets).tolist()


def class_list(groups: set[str]) -> Labels:
    """ImageNet's 1000 classes if every group is one of their synsets, else the groups, sorted."""
    imagenet = Labels.imagenet()
    if groups <= imagenet.index.keys():
        return imagenet
    return Labels(tuple(Label(group, group) for group in sorted(groups)))


def load(
    sources: list[Path], spec: Preprocess, labels: Labels | None = None, cache: Path | None = None
) -> Dataset:
    """Decodes every photo to `spec`'s crop; with a `cache` folder only the first time.

    A photo that cannot be read is logged, counted and skipped. Raises ValueError.
    """
    photos = Photos(sources)
    if cache is None:
        with tempfile.TemporaryFile() as file:
            groups, skipped = _pack(photos, spec, file)
            return _dataset(file, groups, skipped, spec, labels, sources)
    key = sha256(f"{FORMAT}|{asdict(spec)}|{photos.fingerprint()}".encode()).hexdigest()[:16]
    folder = cache / key
    if not folder.exists():
        _fill(folder, photos, spec)
    facts = json.loads((folder / "photos.json").read_text())
    with (folder / "images.u8").open("rb") as file:
        return _dataset(file, facts["groups"], facts["skipped"], spec, labels, sources)


def load_unlabelled(sources: list[Path], spec: Preprocess, most: int) -> NDArray[np.uint8]:
    """(N, crop, crop, 3): at most `most` photos, evenly spread over the folders."""
    files = photo_files(sources)
    chosen = np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int)
    crops = [crop for _, crop in _decode([files[i] for i in chosen], spec, []) if crop is not None]
    if not crops:
        raise _unreadable_error(sources)
    return np.stack(crops)


def _fill(folder: Path, photos: Photos, spec: Preprocess) -> None:
    """Writes a temporary folder and renames it, so that `folder` is complete or absent."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    log.info("packing photos at %d px into %s", spec.crop, folder)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix="unfinished-"))
    try:
        with (unfinished / "images.u8").open("wb") as file:
            groups, skipped = _pack(photos, spec, file)
            os.fsync(file.fileno())
        facts = {"groups": groups, "skipped": skipped}
        (unfinished / "photos.json").write_text(json.dumps(facts))
        try:
            unfinished.rename(folder)
        except OSError:  # another process was faster
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _pack(photos: Photos, spec: Preprocess, file: BinaryIO) -> tuple[list[str], list[str]]:
    """Writes the crops to `file`; returns the class of each, and the names of those skipped."""
    groups: list[str] = []
    skipped: list[str] = []
    bar = tqdm(_decode(photos, spec, skipped), "decoding", photos.count, leave=False, unit="photo")
    for photo, crop in bar:
        if crop is not None:
            groups.append(photo.group)
            file.write(crop.tobytes())
    file.flush()
    if skipped:
        log.warning("%d of %d photos could not be read", len(skipped), len(skipped) + len(groups))
    return groups, skipped


def _dataset(
    file: BinaryIO,
    groups: list[str],
    skipped: list[str],
    spec: Preprocess,
    labels: Labels | None,
    sources: list[Path],
) -> Dataset:
    if not groups:
        raise _unreadable_error(sources)
    labels = labels or class_list(set(groups))
    unknown = set(groups) - labels.index.keys()
    if unknown:
        raise ValueError(f"{len(unknown)} folders are no known class, such as {min(unknown)!r}")
    # "c", copy on write: torch warns of arrays that are not writable
    shape = (len(groups), spec.crop, spec.crop, 3)
    images: NDArray[np.uint8] = np.memmap(file, np.uint8, "c", shape=shape)
    targets = np.array([labels.index[group] for group in groups], np.int64)
    return Dataset(images, targets, labels, tuple(skipped))


def _unreadable_error(sources: list[Path]) -> ValueError:
    return ValueError(f"none of the photos in {', '.join(map(str, sources))} could be read")


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
