"""The files of a directory or a zip: photos with their classes, and all that is none.

The class is the top folder: the first below the folder that holds them all. So `cat/2023/x.jpg` is
a cat, and so is `photos/cat/x.jpg` in a zip whose files are all in `photos/`. In a flat folder it
is what precedes `_` in the file's name, as in `n02085620_Chihuahua.jpg`.
"""

import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from threading import local

from alexnet.formats import SUFFIXES


@dataclass(frozen=True)
class PhotoFile:
    """A photo and the class its folder (or, failing that, its name) tells."""

    name: str
    group: str
    read: Callable[[], bytes]


@dataclass
class Listing:
    """What was found in one source, or in several."""

    photos: list[PhotoFile] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    """How many files have a suffix that is no photo's, by that suffix in lower case."""
    broken: list[str] = field(default_factory=list)
    """Links that lead nowhere."""
    empty: list[str] = field(default_factory=list)
    """Class folders without a photo."""

    def add(self, other: "Listing") -> None:
        self.photos += other.photos
        self.others += other.others
        self.broken += other.broken
        self.empty += other.empty


def listing(source: Path) -> Listing:
    """Of a directory or a zip; raises ValueError for anything else."""
    if source.is_dir():
        return _directory(source)
    if zipfile.is_zipfile(source):
        return _zip(source)
    if not source.exists():
        raise ValueError(f"there is no {source}")
    raise ValueError(f"{source} is neither a directory nor a zip file nor a tar shard")


def files_below(folder: Path) -> Iterator[Path]:
    """Every file. Folders that are links are followed, but not into a folder that they lie in."""
    return (Path(entry.path) for entry in _below(folder, ()) if entry.is_file())


def _below(folder: Path | str, above: tuple[tuple[int, int], ...]) -> Iterator["os.DirEntry[str]"]:
    """All that is no folder. A folder of a million files is listed without asking for each of them
    what it is: the entries know."""
    stat = os.stat(folder)  # noqa: PTH116 - of the folder that a link leads to
    here = stat.st_dev, stat.st_ino
    if here in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _below(entry.path, (*above, here))
            else:
                yield entry


def _directory(source: Path) -> Listing:
    found = Listing()
    photos: dict[PurePosixPath, Path] = {}
    for entry in _below(source, ()):
        path = Path(entry.path)
        relative = PurePosixPath(path.relative_to(source).as_posix())
        if not entry.is_file():
            found.broken += [str(path)] if entry.is_symlink() else []
        elif _is_photo(relative, found.others):
            photos[relative] = path
    root = _root(photos)
    found.photos = [PhotoFile(str(p), _group(r, root), p.read_bytes) for r, p in photos.items()]
    folders = (path.name for path in (source / root).iterdir() if path.is_dir())
    found.empty = _without_photos(folders, found, f"{source / root}/")
    return found


def _zip(source: Path) -> Listing:
    found = Listing()
    archives = local()  # a ZipFile is shared between threads under a lock: one for each

    def read(member: str) -> bytes:
        if not hasattr(archives, "zip"):
            archives.zip = zipfile.ZipFile(source)
        data: bytes = archives.zip.read(member)
        return data

    with zipfile.ZipFile(source) as archive:
        names = archive.namelist()
    members = {PurePosixPath(name): name for name in names if not name.endswith("/")}
    folders = {PurePosixPath(name) for name in names if name.endswith("/")}
    photos = {path: name for path, name in members.items() if _is_photo(path, found.others)}
    root = _root(photos)
    found.photos = [
        PhotoFile(f"{source}!{name}", _group(path, root), partial(read, name))
        for path, name in photos.items()
    ]
    folders |= {parent for path in members for parent in path.parents}
    tops = (folder.name for folder in folders if folder.name and folder.parent == root)
    found.empty = _without_photos(tops, found, f"{source}!")
    return found


def _is_photo(path: PurePosixPath, others: Counter[str]) -> bool:
    """Hidden files are never photos: macOS puts a `._1.jpg` beside every 1.jpg of a zip. What else
    is none is counted in `others`."""
    if path.name.startswith("."):
        return False
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        others[suffix or "no suffix"] += 1
    return suffix in SUFFIXES


def _root(photos: Iterable[PurePosixPath]) -> PurePosixPath:
    """The folder that holds the class folders."""
    parents = {path.parent for path in photos}
    if not parents:
        return PurePosixPath()
    shared = PurePosixPath(os.path.commonpath(parents))
    return shared.parent if len(parents) == 1 else shared


def _group(path: PurePosixPath, root: PurePosixPath) -> str:
    below = path.relative_to(root).parts
    return below[0] if len(below) > 1 else path.name.split("_")[0]


def _without_photos(folders: Iterable[str], found: Listing, place: str) -> list[str]:
    groups = {photo.group for photo in found.photos}
    hidden = (".", "__MACOSX")
    return [place + name for name in sorted(set(folders) - groups) if not name.startswith(hidden)]
