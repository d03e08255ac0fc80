"""The model bundle: a directory, or the same files in one `.tar.xz`, opened strictly.

Every file is checked against the manifest's sha256 when opened. A bundle may come from a stranger:
each way to be none is one sentence, in bounded time and memory.
"""

import hashlib
import io
import lzma
import os
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from alexnet.archive import MAX_UNPACKED_BYTES, unpack
from alexnet.files import read_plain
from alexnet.golden import Golden
from alexnet.labels import Labels
from alexnet.manifest import MAX_MANIFEST_BYTES, BundleError, Manifest, plain_name

__all__ = ["Bundle", "BundleError", "read_manifest", "sha256"]

MANIFEST = "manifest.json"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Bundle:
    """A manifest and the files it names, all present and all with the right hash."""

    manifest: Manifest
    files: Mapping[str, bytes]
    origin: str
    """Where it was read from, for the log."""

    def __post_init__(self) -> None:
        m = self.manifest
        hashes = {name: sha256(data) for name, data in self.files.items()}
        for entry in m.entries:
            if entry.file not in self.files:
                raise BundleError(f"{self.origin}: {entry.file} is missing")
            if hashes[entry.file] != entry.sha256:
                raise BundleError(
                    f"{self.origin}: {entry.file} is damaged (its sha256 is not the manifest's)"
                )
        if len(self.labels) != m.model.classes:
            raise BundleError(
                f"{self.origin}: {len(self.labels)} labels for {m.model.classes} classes"
            )

    @cached_property
    def labels(self) -> Labels:
        try:
            return Labels.from_tsv(self.files[self.manifest.labels.file].decode())
        except ValueError as error:
            raise BundleError(f"{self.origin}: {error}") from None

    @cached_property
    def golden(self) -> Golden:
        side, classes = self.manifest.preprocess.crop, self.manifest.model.classes
        try:
            return Golden.from_bytes(self.files[self.manifest.golden.file], side, classes)
        except ValueError as error:
            raise BundleError(f"{self.origin}: the golden batch cannot be read: {error}") from None

    @classmethod
    def open(cls, path: Path) -> "Bundle":
        """Reads a directory or a packed file; raises BundleError."""
        try:
            files = _read_directory(path) if path.is_dir() else unpack(path)
        except FileNotFoundError as error:
            raise BundleError(f"there is no model bundle at {error.filename or path}") from None
        except (OSError, EOFError, lzma.LZMAError, tarfile.TarError) as error:
            raise BundleError(f"{path} cannot be read as a model bundle: {error}") from None
        except (RecursionError, MemoryError):
            raise BundleError(f"{path} is damaged: too deeply nested, or too large") from None
        if MANIFEST not in files:
            raise BundleError(f"{path} is no model bundle: it has no {MANIFEST}")
        try:
            manifest = Manifest.from_json(files.pop(MANIFEST))
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from None
        return cls(manifest, files, str(path))

    def write(self, path: Path) -> None:
        """Writes a packed file if the name ends in `.tar.xz`, else a directory; atomically: what
        fails leaves nothing half-written.

        The same files give the same bytes: entries are sorted and carry no times or owners.
        """
        files = {MANIFEST: self.manifest.to_json().encode(), **self.files}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name.endswith(".tar.xz"):
            temporary = path.with_name(f".{path.name}.tmp")
            try:
                temporary.write_bytes(_pack(files))
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            return
        if path.exists():
            raise BundleError(f"{path} exists; a bundle is never changed in place")
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            for name, data in files.items():
                (folder / name).write_bytes(data)
            folder.chmod(0o755)
            os.rename(folder, path)  # noqa: PTH104 - Path.rename would do; this one never replaces
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def read_manifest(folder: Path) -> Manifest:
    """What the bundle in this folder says of itself. Raises BundleError, OSError."""
    try:
        return Manifest.from_json(read_plain(folder / MANIFEST, MAX_MANIFEST_BYTES))
    except ValueError as error:
        raise BundleError(f"{folder}: {error}") from None


def _read_directory(path: Path) -> dict[str, bytes]:
    manifest = read_manifest(path)
    files = {MANIFEST: manifest.to_json().encode()}
    left = MAX_UNPACKED_BYTES
    for name in {entry.file for entry in manifest.entries}:
        try:
            files[name] = read_plain(path / name, left)
        except FileNotFoundError:
            raise BundleError(f"{path}: {name} is missing") from None
        except ValueError as error:
            raise BundleError(str(error)) from None
        left -= len(files[name])
    return files


def _pack(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files):
            entry = tarfile.TarInfo(plain_name(name))
            entry.size, entry.mode = len(files[name]), 0o644
            archive.addfile(entry, io.BytesIO(files[name]))
    return lzma.compress(buffer.getvalue(), preset=9 | lzma.PRESET_EXTREME)
