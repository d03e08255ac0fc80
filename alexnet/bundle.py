"""The model bundle: a directory, or the same files in one `.tar.xz`, opened strictly.

A packed bundle is read in memory, never unpacked to disk: there is no path to escape from and no
temporary file to leave behind. Every file is checked against the manifest's sha256 when opened.
"""

import hashlib
import io
import lzma
import os
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from alexnet.golden import Golden
from alexnet.labels import Labels
from alexnet.manifest import BundleError, Manifest

__all__ = ["Bundle", "BundleError", "sha256"]

MANIFEST = "manifest.json"
MAX_UNPACKED_BYTES = 2 << 30


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
        for entry in m.entries:
            if entry.file not in self.files:
                raise BundleError(f"{self.origin}: {entry.file} is missing")
            if sha256(self.files[entry.file]) != entry.sha256:
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
        try:
            return Golden.from_bytes(self.files[self.manifest.golden.file])
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise BundleError(f"{self.origin}: the golden batch cannot be read: {error}") from None

    @classmethod
    def open(cls, path: Path) -> "Bundle":
        """Reads a directory or a packed file; raises BundleError."""
        try:
            files = _read_directory(path) if path.is_dir() else _read_packed(path)
        except FileNotFoundError as error:
            raise BundleError(f"there is no model bundle at {error.filename or path}") from None
        except (OSError, EOFError, lzma.LZMAError, tarfile.TarError) as error:
            raise BundleError(f"{path} cannot be read as a model bundle: {error}") from None
        if MANIFEST not in files:
            raise BundleError(f"{path} is no model bundle: it has no {MANIFEST}")
        try:
            manifest = Manifest.from_json(files.pop(MANIFEST).decode())
        except (BundleError, UnicodeDecodeError) as error:
            raise BundleError(f"{path}: {error}") from None
        return cls(manifest, files, str(path))

    def write(self, path: Path) -> None:
        """Writes a packed file if the name ends in `.tar.xz`, else a directory; atomically.

        The same files give the same bytes: entries are sorted and carry no times or owners.
        """
        files = {MANIFEST: self.manifest.to_json().encode(), **self.files}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name.endswith(".tar.xz"):
            temporary = path.with_name(f".{path.name}.tmp")
            temporary.write_bytes(_pack(files))
            temporary.replace(path)
            return
        if path.exists():
            raise BundleError(f"{path} exists; a bundle is never changed in place")
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        for name, data in files.items():
            (folder / name).write_bytes(data)
        folder.chmod(0o755)
        os.rename(folder, path)  # noqa: PTH104 - Path.rename would do; this one never replaces


def _read_directory(path: Path) -> dict[str, bytes]:
    try:
        manifest = Manifest.from_json((path / MANIFEST).read_bytes().decode())
    except (BundleError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: {error}") from None
    names = [MANIFEST, *(_plain_name(entry.file) for entry in manifest.entries)]
    return {name: (path / name).read_bytes() for name in names if (path / name).is_file()}


def _read_packed(path: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    total = 0
    with path.open("rb") as raw, tarfile.open(fileobj=raw, mode="r|xz") as archive:
        for member in archive:
            total += member.size
            if total > MAX_UNPACKED_BYTES:
                raise BundleError(f"{path} unpacks to more than {MAX_UNPACKED_BYTES:,} bytes")
            if not member.isfile():
                raise BundleError(f"{path}: {member.name!r} is no plain file")
            content = archive.extractfile(member)
            assert content is not None  # it is a file
            files[_plain_name(member.name)] = content.read()
    return files


def _plain_name(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise BundleError(f"{name!r} is no name for a file in a bundle")
    return name


def _pack(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files):
            entry = tarfile.TarInfo(_plain_name(name))
            entry.size, entry.mode = len(files[name]), 0o644
            archive.addfile(entry, io.BytesIO(files[name]))
    return lzma.compress(buffer.getvalue(), preset=9 | lzma.PRESET_EXTREME)
