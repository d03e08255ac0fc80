"""Class-folder photos, from directories or zips, packed once as uint8 squares."""

import logging
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import local

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from alexnet.labels import Label, Labels
from alexnet.preprocess import FORMATS, InvalidImage, preprocess
from alexnet.spec import Preprocess

log = logging.getLogger(__name__)

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp", ".gif", ".bmp")
assert len(SUFFIXES) == len(FORMATS) + 1  # .jpg and .jpeg


@dataclass(frozen=True)
class Dataset:
    """Photos in memory; the index of a label is the index of a logit."""

    images: NDArray[np.uint8]
    """(N, side, side, 3)"""
    targets: NDArray[np.int64]
    labels: Labels

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def known(self) -> list[int]:
        """The classes that have photos here, ascending."""
        return np.unique(self.targets).tolist()


@dataclass(frozen=True)
class PhotoFile:
    """A photo on disk and the class its folder (or, failing that, its name) tells."""

    name: str
    group: str
    read: Callable[[], bytes]


def photo_files(sources: list[Path]) -> list[PhotoFile]:
    """Every photo in the directories and zips, in sorted order; raises ValueError if none.

    The class is the folder's name. In a flat folder it is what precedes `_` in the file's name,
    as in `n02085620_Chihuahua.jpg`.
    """
    files = sorted((f for s in sources for f in _walk(s)), key=lambda f: (f.group, f.name))
    if not files:
        raise ValueError(f"no photos in {', '.join(map(str, sources))}")
    return files


def class_list(groups: set[str]) -> Labels:
    """ImageNet's 1000 classes if every group is one of their synsets, else the groups, sorted."""
    imagenet = Labels.imagenet()
    if groups <= imagenet.index.keys():
        return imagenet
    return Labels(tuple(Label(group, group) for group in sorted(groups)))


def load(sources: list[Path], spec: Preprocess, labels: Labels | None = None) -> Dataset:
    """Decodes every photo to `spec`'s crop. A photo that cannot be read is named and skipped."""
    files = photo_files(sources)
    labels = labels or class_list({f.group for f in files})
    unknown = {f.group for f in files} - labels.index.keys()
    if unknown:
        raise ValueError(f"{len(unknown)} folders are no known class, such as {min(unknown)!r}")
    images, good = _decode(files, spec)
    if not good.any():
        raise ValueError(f"none of the photos in {', '.join(map(str, sources))} could be read")
    targets = np.array([labels.index[f.group] for f in files], np.int64)
    return Dataset(images if good.all() else images[good], targets[good], labels)


def load_unlabelled(sources: list[Path], spec: Preprocess, most: int) -> NDArray[np.uint8]:
    """(N, crop, crop, 3): up to `most` of the photos, evenly spread over the folders."""
    files = photo_files(sources)
    chosen = np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int)
    images, good = _decode([files[i] for i in chosen], spec)
    if not good.any():
        raise ValueError(f"none of the photos in {', '.join(map(str, sources))} could be read")
    return images[good]


def _decode(
    files: list[PhotoFile], spec: Preprocess
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The crops, and which of them could be read."""
    images = np.empty((len(files), spec.crop, spec.crop, 3), np.uint8)
    good = np.zeros(len(files), bool)

    def decode(i: int) -> None:
        try:
            images[i] = preprocess(files[i].read(), spec).crop
            good[i] = True
        except (InvalidImage, OSError, zipfile.BadZipFile, zlib.error) as error:
            log.warning("skipped %s: %s", files[i].name, error)

    with ThreadPoolExecutor() as pool:
        done = pool.map(decode, range(len(files)))
        for _ in tqdm(done, "decoding", len(files), unit=" photos", leave=False):
            pass
    if not good.all():
        log.warning("%d of %d photos could not be read", np.sum(~good), len(files))
    return images, good


def _walk(source: Path) -> Iterator[PhotoFile]:
    if source.is_dir():
        for path in source.rglob("*"):
            if path.suffix.lower() in SUFFIXES:
                relative = PurePosixPath(path.relative_to(source).as_posix())
                yield PhotoFile(str(path), _group(relative), path.read_bytes)
    elif zipfile.is_zipfile(source):
        archives = local()  # a ZipFile is shared between threads under a lock: one for each

        def read(member: str) -> bytes:
            if not hasattr(archives, "zip"):
                archives.zip = zipfile.ZipFile(source)
            data: bytes = archives.zip.read(member)
            return data

        with zipfile.ZipFile(source) as archive:
            for member in archive.namelist():
                if member.lower().endswith(SUFFIXES):
                    name = f"{source}!{member}"
                    group = _group(PurePosixPath(member))
                    yield PhotoFile(name, group, lambda m=member: read(m))  # type: ignore[misc]
    else:
        raise ValueError(f"{source} is neither a directory nor a zip file")


def _group(path: PurePosixPath) -> str:
    return path.parent.name or path.name.split("_")[0]
