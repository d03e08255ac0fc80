"""Photos by name, in folders and zips; read one at a time, when asked to."""

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from threading import Lock

SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"),
)


@dataclass(frozen=True)
class Photo:
    """A photo that can be read; until then it costs no memory."""

    name: str
    read: Callable[[], bytes]
    """Raises OSError, without an errno where another try gives the same: it is damaged."""
    group: str = ""
    """Its class, as the top folder (or, failing that, the file's name) tells."""


def photos_in(source: Path) -> list[Photo]:
    """Every photo in a folder or a zip, sorted by name; raises ValueError if none can be found."""
    if source.is_dir():
        photos = list(_in_folder(source))
    elif zipfile.is_zipfile(source):
        photos = list(_in_zip(source))
    else:
        problem = "is neither a folder nor a zip" if source.exists() else "does not exist"
        raise ValueError(f"{source} {problem}")
    if not photos:
        raise ValueError(f"no photos in {source} ({' '.join(SUFFIXES)})")
    return sorted(photos, key=lambda photo: photo.name)


def groups(paths: Iterable[PurePosixPath]) -> dict[PurePosixPath, str]:
    """The class of each: its top folder, the first below the one that holds them all, as in
    training. `n02085620` of `n02085620/1.jpg`, of `val/n02085620/2023/1.jpg` beside other classes
    in `val`, and, in a flat folder, of `n02085620_Chihuahua.jpg`."""
    paths = list(paths)
    parents = {path.parent for path in paths}
    root = PurePosixPath(os.path.commonpath(parents)) if parents else PurePosixPath()
    root = root.parent if len(parents) == 1 else root
    below = {path: path.relative_to(root).parts for path in paths}
    return {p: parts[0] if len(parts) > 1 else p.name.split("_")[0] for p, parts in below.items()}


def _in_folder(folder: Path) -> Iterator[Photo]:
    files = ((PurePosixPath(path.relative_to(folder).as_posix()), path) for path in _files(folder))
    found = {name: path for name, path in files if _is_photo(name)}
    for name, group in groups(found).items():
        yield Photo(str(found[name]), found[name].read_bytes, group)


def _files(folder: Path) -> Iterator[Path]:
    """Folders that are links are followed, as in training, but not into a folder that they lie in.
    Those that may not be read are left out."""
    above: dict[Path, tuple[tuple[int, int], ...]] = {folder: ()}
    for name, folders, files in os.walk(folder, followlinks=True):
        place = Path(name)
        stat = place.stat()
        here, around = (stat.st_dev, stat.st_ino), above.pop(place)
        if here in around:
            folders.clear()
            continue
        above |= {place / below: (*around, here) for below in folders}
        yield from (place / file for file in files)


def _in_zip(path: Path) -> Iterator[Photo]:
    try:
        archive = zipfile.ZipFile(path)  # stays open for as long as one of its photos is around
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    lock = Lock()
    found = {PurePosixPath(member): member for member in archive.namelist()}
    for name, group in groups(name for name in found if _is_photo(name)).items():
        member = found[name]
        yield Photo(f"{path}!{member}", partial(_read, archive, lock, member), group)


def _is_photo(path: PurePosixPath) -> bool:
    # macOS puts a `._1.jpg` that is no photo beside every 1.jpg of a zip.
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _read(archive: zipfile.ZipFile, lock: Lock, member: str) -> bytes:
    try:
        with lock:  # a ZipFile counts its readers without one
            return archive.read(member)
    except Exception as error:  # encrypted, or damaged: each compression has errors of its own
        if isinstance(error, OSError) and error.errno:
            raise
        raise OSError(str(error) or "the zip is damaged") from None
