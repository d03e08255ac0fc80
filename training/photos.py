"""Photos and their classes in directories, zips and tar shards; nothing is decoded here."""

import hashlib
import logging
import tarfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath

from webdataset.tariterators import group_by_keys, tar_file_expander

from alexnet.formats import SUFFIXES
from alexnet.labels import Labels
from training.listing import Listing, PhotoFile, files_below, listing
from training.split import Part

__all__ = ["Part", "PhotoFile", "Photos", "photo_files"]

log = logging.getLogger(__name__)

TARS = (".tar", ".tar.gz", ".tgz")


class Photos:
    """The photos of all sources: those in directories and zips sorted by class and name, then
    those in tar shards as they lie there, each read once, straight through.

    Which class a photo is of, training/listing.py says. A shard is WebDataset's: files that share a
    name up to the first dot are one sample, and its `.cls` holds the class, as text or as
    ImageNet's index; without one it is the folder's name, or what precedes `_` in the file's.
    Raises ValueError if a source is missing or none of them has a photo.
    """

    def __init__(self, sources: list[Path], part: Part | None = None, found: Listing | None = None):
        self.sources, self.part = sources, part
        self.shards = [s for s in sources if s.name.lower().endswith(TARS) and not s.is_dir()]
        self.found = found or self._list()
        """Of directories and zips, with all that is no photo."""
        listed = sorted(self.found.photos, key=lambda f: (f.group, f.name))
        self.listed = part.of(listed) if part else listed
        if missing := [str(s) for s in self.shards if not s.is_file()]:
            raise ValueError(f"there is no {missing[0]}")
        if not listed and not self.shards:
            raise ValueError(f"no photos in {self.names}{_instead(self.found)}")

    def _list(self) -> Listing:
        found = Listing()
        for source in self.sources:
            if source not in self.shards:
                found.add(listing(source))
        return found

    def of(self, part: Part) -> "Photos":
        """A part of them; the folders are not listed again."""
        return Photos(self.sources, part, self.found)

    @property
    def names(self) -> str:
        """The sources, for a message."""
        return ", ".join(map(str, self.sources))

    @property
    def count(self) -> int | None:
        """How many there are, if that is known before the shards are read."""
        return None if self.shards else len(self.listed)

    def __iter__(self) -> Iterator[PhotoFile]:
        yield from self.listed
        for shard in self.shards:
            part = self.part
            yield from (photo for photo in _shard(shard) if part is None or part.has(photo))

    @cached_property
    def fingerprint(self) -> str:
        """Changes when a file is added, removed, renamed, or written again; with the part, and with
        classes that are not the name of the photo's own folder."""
        digest = hashlib.sha256(repr(self.part).encode() if self.part else b"")
        for source in self.sources:
            files = sorted(files_below(source)) if source.is_dir() else [source]
            for file in files:
                if file.is_file():
                    stat = file.stat()
                    digest.update(f"{file.absolute()}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
        for photo in self.listed:
            path = PurePosixPath(photo.name.replace("!", "/"))
            if photo.group not in (path.parent.name, path.name.split("_")[0]):
                digest.update(f"{photo.name}|{photo.group}\n".encode())
        return digest.hexdigest()


def photo_files(sources: list[Path]) -> list[PhotoFile]:
    """Every photo of the sources; raises ValueError if there is none. Shards are held in memory."""
    return list(Photos(sources))


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


def _instead(found: Listing) -> str:
    """What the sources hold in place of photos."""
    others = ", ".join(f"{count} {suffix}" for suffix, count in found.others.most_common(5))
    broken = f"{len(found.broken)} links that lead nowhere" if found.broken else ""
    instead = " and ".join(text for text in (others, broken) if text)
    return f": only {instead}; photos end in {' '.join(SUFFIXES)}" if instead else ""


def _group(path: PurePosixPath) -> str:
    return path.parent.name or path.name.split("_")[0]
