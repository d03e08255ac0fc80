"""Photos and their classes in directories, zips and tar shards; nothing is decoded here."""

import hashlib
import logging
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import local

from webdataset.tariterators import group_by_keys, tar_file_expander

from alexnet.formats import SUFFIXES
from alexnet.labels import Labels

log = logging.getLogger(__name__)

TARS = (".tar", ".tar.gz", ".tgz")


@dataclass(frozen=True)
class PhotoFile:
    """A photo and the class its folder (or, failing that, its name) tells."""

    name: str
    group: str
    read: Callable[[], bytes]


class Photos:
    """The photos of all sources: those in directories and zips sorted by class and name, then
    those in tar shards as they lie there, each read once, straight through.

    The class is the folder's name. In a flat folder it is what precedes `_` in the file's name,
    as in `n02085620_Chihuahua.jpg`. A shard is WebDataset's: files that share a name up to the
    first dot are one sample, and its `.cls` holds the class, as text or as ImageNet's index.
    """

    def __init__(self, sources: list[Path]):
        self.sources = sources
        self.shards = [s for s in sources if s.name.lower().endswith(TARS)]
        listed = (f for s in sources if s not in self.shards for f in _walk(s))
        self.listed = sorted(listed, key=lambda f: (f.group, f.name))
        if missing := [str(s) for s in self.shards if not s.is_file()]:
            raise ValueError(f"there is no {missing[0]}")
        if not self.listed and not self.shards:
            raise ValueError(f"no photos in {', '.join(map(str, sources))}")

    @property
    def count(self) -> int | None:
        """How many there are, if that is known before the shards are read."""
        return None if self.shards else len(self.listed)

    def __iter__(self) -> Iterator[PhotoFile]:
        yield from self.listed
        for shard in self.shards:
            yield from _shard(shard)

    def fingerprint(self) -> str:
        """Changes when a file is added, removed, renamed, or written again."""
        digest = hashlib.sha256()
        for source in self.sources:
            files = sorted(source.rglob("*")) if source.is_dir() else [source]
            for file in files:
                if file.is_file():
                    stat = file.stat()
                    digest.update(f"{file.absolute()}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()


def photo_files(sources: list[Path]) -> list[PhotoFile]:
    """Every photo of the sources; raises ValueError if there is none. Shards are held in memory."""
    return list(Photos(sources))


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
        raise ValueError(f"{source} is neither a directory nor a zip file nor a tar shard")


def _shard(path: Path) -> Iterator[PhotoFile]:
    def give_up(error: Exception) -> bool:
        if not isinstance(error, tarfile.TarError | OSError | EOFError | ValueError):
            raise error
        log.warning("skipped the rest of %s: %s", path, error)
        return True

    rows = Labels.imagenet().rows
    classed = False
    with path.open("rb") as file:
        # An open file: its name is never taken for a URL, a pattern, or a command.
        files = tar_file_expander([{"url": str(path), "stream": file}], handler=give_up)
        for sample in group_by_keys(files, handler=give_up):
            key = sample["__key__"]
            classed |= "cls" in sample
            told = sample.get("cls", b"").decode(errors="replace").strip()
            if told.isdecimal() and int(told) < len(rows):
                told = rows[int(told)].synset
            for suffix in SUFFIXES:
                data = sample.get(suffix[1:])
                if data is None:
                    continue
                if classed and not told:  # a damaged shard: its name would become a class
                    log.warning("skipped %s!%s%s: it has no class", path, key, suffix)
                    continue
                group = told or _group(PurePosixPath(key + suffix))
                yield PhotoFile(f"{path}!{key}{suffix}", group, lambda d=data: d)  # type: ignore[misc]


def _group(path: PurePosixPath) -> str:
    return path.parent.name or path.name.split("_")[0]
