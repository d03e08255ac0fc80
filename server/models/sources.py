"""The versions of a model on disk: where each lies, and a mark that changes when it does.

    models/alexnet/1/          a bundle, as a directory
    models/alexnet/2.tar.xz    or packed
    models/alexnet/3/x.tar.xz  or packed in a directory of its own

A path to a bundle itself is a repository with version 1 in it.
"""

from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from alexnet.bundle import MANIFEST, read_manifest
from alexnet.manifest import BundleError

END_BYTES = 4096
"""Of an archive, whose check sums stand at its end."""


@dataclass(frozen=True)
class Source:
    version: str
    path: Path
    mark: str
    """Of the content: two that are equal in size and time differ in it."""
    problem: str = ""
    """Why it cannot be read."""


def sources(path: Path) -> list[Source]:
    """Every version at the path, lowest first; raises BundleError when there is none, OSError when
    the path itself cannot be read."""
    if path.is_file() or (path / MANIFEST).exists():
        return [Source("1", path, _mark(path))]
    if not path.is_dir():
        raise BundleError(f"there is no model bundle at {path}")
    found: dict[str, Source] = {}
    for child in sorted(path.iterdir()):
        version = child.name.removesuffix(".tar.xz")
        if version.isdecimal() and version == str(int(version)) and int(version) > 0:
            source = _source(version, child)
            if other := found.get(version):
                names = f"{other.path.name} and {child.name}"
                source = Source(version, child, "", f"{path} has version {version} twice: {names}")
            found[version] = source
    if not found:
        raise BundleError(f"{path} is no model bundle, and no folder of versions such as {path}/1")
    return sorted(found.values(), key=lambda source: int(source.version))


def _source(version: str, child: Path) -> Source:
    try:
        inside = list(child.iterdir()) if child.is_dir() else [child]
        if not inside:
            return Source(version, child, "", f"{child} is empty")
        packed = [path for path in inside if path.name.endswith(".tar.xz")]
        bundle = packed[0] if len(packed) == 1 else child
        return Source(version, bundle, _mark(bundle))
    except OSError as error:
        return Source(version, child, "", f"{child} cannot be read: {error.strerror}")


def _mark(path: Path) -> str:
    """Of the times and sizes of its files, added up, as one that is still being copied differs; and
    of check sums of their content, which a copy may change and leave these as they were. Raises
    OSError."""
    files, said = [path], b""
    if path.is_dir():
        files = [path / MANIFEST]
        with suppress(BundleError, FileNotFoundError):  # opening it will say so
            manifest = read_manifest(path)
            said = manifest.to_json().encode()
            files += [path / entry.file for entry in manifest.entries]
    else:
        said = _end(path)
    status = [file.stat() for file in files if file.exists()]
    times, sizes = sum(s.st_mtime_ns for s in status), sum(s.st_size for s in status)
    return f"{times} {sizes} {sha256(said).hexdigest()}"


def _end(path: Path) -> bytes:
    """Of a plain file; a FIFO is not waited for."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - END_BYTES))
        return file.read(END_BYTES)
