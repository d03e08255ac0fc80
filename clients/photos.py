"""Photos by name, in folders and zips; read one at a time, when asked to."""

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from threading import Lock

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


@dataclass(frozen=True)
class Photo:
    """A photo that can be read; until then it costs no memory."""

    name: str
    read: Callable[[], bytes]
    """Raises OSError."""
    group: str = ""
    """Its class, as the folder (or, failing that, the file's name) tells."""


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


def group(path: PurePosixPath) -> str:
    """`n02085620` of both `n02085620/1.jpg` and, in a flat folder, `n02085620_Chihuahua.jpg`."""
    return path.parent.name or path.name.split("_")[0]


def _in_folder(folder: Path) -> Iterator[Photo]:
    for path in folder.rglob("*"):
        relative = PurePosixPath(path.relative_to(folder).as_posix())
        if _is_photo(relative) and not path.is_dir():
            yield Photo(str(path), path.read_bytes, group(relative))


def _in_zip(path: Path) -> Iterator[Photo]:
    try:
        archive = zipfile.ZipFile(path)  # stays open for as long as one of its photos is around
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    lock = Lock()
    for member in archive.namelist():
        relative = PurePosixPath(member)
        if _is_photo(relative):
            yield Photo(f"{path}!{member}", partial(_read, archive, lock, member), group(relative))


def _is_photo(path: PurePosixPath) -> bool:
    # macOS puts a `._1.jpg` that is no photo beside every 1.jpg of a zip.
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _read(archive: zipfile.ZipFile, lock: Lock, member: str) -> bytes:
    try:
        with lock:  # a ZipFile counts its readers without one
            return archive.read(member)
    except Exception as error:  # encrypted, or damaged: each compression has errors of its own
        raise OSError(str(error) or "the zip is damaged") from None
