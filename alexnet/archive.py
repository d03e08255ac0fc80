"""A packed bundle, `.tar.xz`: its files, read in memory and within bounds.

Never unpacked to disk: there is no path to escape from and no temporary file to leave behind. The
bounds are on what is done, and not on what the archive says of itself.
"""

import lzma
import tarfile
from pathlib import Path
from typing import IO, cast

from alexnet.manifest import MAX_FILES, BundleError, plain_name

MAX_UNPACKED_BYTES = 2 << 30
MAX_RATIO, SPARE_BYTES = 50, 16 << 20
"""Weights that are half zeros pack to a fifth; a bomb of zeros to a seven-thousandth."""
MAX_DECODER_BYTES = 256 << 20
"""Four times what the highest preset of xz takes."""
MAX_EXTRA_BYTES = 2048
"""Of a header that says more of the next file: long names, times. They are parsed in memory, in
time that grows with the square of their length."""

_EXTRA = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


def unpack(path: Path) -> dict[str, bytes]:
    """The files by name. Raises BundleError, OSError, EOFError, LZMAError, TarError."""
    if path.exists() and not path.is_file():
        raise BundleError(f"{path} is neither a folder nor a plain file")
    files: dict[str, bytes] = {}
    most = min(MAX_UNPACKED_BYTES, MAX_RATIO * path.stat().st_size + SPARE_BYTES)
    with path.open("rb") as raw:
        stream = _Unpacked(raw, f"{path} unpacks to more than {most:,} bytes", most)
        headers = _headers(path)
        source = cast(IO[bytes], stream)  # tarfile calls nothing but `read`
        with tarfile.open(fileobj=source, mode="r|", bufsize=1 << 18, tarinfo=headers) as archive:
            for member in archive:
                if not member.isfile() or member.issparse():
                    raise BundleError(f"{path}: {member.name!r:.80} is no plain file")
                if member.size > most:
                    raise BundleError(stream.too_large)
                content = archive.extractfile(member)
                assert content is not None  # it is a file
                files[plain_name(member.name)] = content.read()
    return files


def _headers(path: Path) -> type[tarfile.TarInfo]:
    """tarfile's own, counted and measured before what they announce is read."""

    class Header(tarfile.TarInfo):
        count = 0

        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "Header":
            header = super().frombuf(buf, encoding, errors)
            Header.count += 1
            if Header.count > 2 * MAX_FILES:
                raise BundleError(f"{path} has more than {MAX_FILES} files")
            if header.type in _EXTRA and header.size > MAX_EXTRA_BYTES:
                raise BundleError(f"{path} has a header of {header.size:,} bytes")
            return header

    return Header


class _Unpacked:
    """The archive behind xz, as a file to be read once from front to back."""

    def __init__(self, raw: IO[bytes], too_large: str, most: int):
        self.too_large = too_large
        self._raw, self._left = raw, most
        self._xz = lzma.LZMADecompressor(lzma.FORMAT_XZ, MAX_DECODER_BYTES)

    def read(self, size: int) -> bytes:
        """Fewer bytes only at the end. Raises EOFError where the file was cut."""
        parts: list[bytes] = []
        while size and not self._xz.eof:
            packed = self._raw.read(1 << 16) if self._xz.needs_input else b""
            if self._xz.needs_input and not packed:
                raise EOFError("it ends too early")
            part = self._xz.decompress(packed, size)
            size -= len(part)
            self._left -= len(part)
            if self._left < 0:
                raise BundleError(self.too_large)
            parts.append(part)
        return b"".join(parts)
