"""The golden batch: crops, and the logits that the trained network gave for them.

It travels in the bundle and goes through the engine at start: a server that does not compute what
was trained does not become ready.
"""

import io
import math
import struct
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.postprocess import softmax

MAX_PHOTOS, MAX_DIRECTORY_BYTES, MAX_HEADER_BYTES = 256, 1024, 512


class GoldenMismatch(ValueError):
    """The engine does not compute what the bundle's author measured."""


@dataclass(frozen=True)
class Golden:
    crops: NDArray[np.uint8]
    """(N, crop, crop, 3)"""
    logits: NDArray[np.float32]
    """(N, classes), from torch in float32"""

    def difference(self, logits: NDArray[np.float32]) -> float:
        """The largest difference of any probability, 0 to 1."""
        if logits.shape != self.logits.shape:
            raise GoldenMismatch(f"logits of shape {logits.shape}, expected {self.logits.shape}")
        if not np.isfinite(logits).all():
            raise GoldenMismatch("the engine answers with numbers that are not finite")
        return float(np.abs(softmax(logits) - softmax(self.logits)).max())

    def check(self, logits: NDArray[np.float32], tolerance: float) -> float:
        """The difference; raises GoldenMismatch when it is above the artifact's tolerance."""
        difference = self.difference(logits)
        if not difference <= tolerance:  # NaN is no match
            raise GoldenMismatch(
                f"the engine's probabilities differ from the trained network's by up to "
                f"{difference:.4f}; this artifact may differ by {tolerance:.4f}"
            )
        return difference

    def to_bytes(self) -> bytes:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, crops=self.crops, logits=self.logits)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, side: int, classes: int) -> "Golden":
        """For crops of `side` px and so many classes. Raises ValueError; what a file says of itself
        is checked before memory is taken for it."""
        try:
            _check_directory(data)
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                crops = _array(archive, "crops.npy", np.uint8, (side, side, 3))
                logits = _array(archive, "logits.npy", np.float32, (classes,))
        except ValueError:
            raise
        except Exception as error:  # a damaged zip raises almost anything
            raise ValueError(f"it is no file of arrays: {str(error)[:200]}") from None
        if len(crops) != len(logits):
            raise ValueError(f"it has {len(crops)} crops and logits of {len(logits)}")
        return cls(crops, logits)


def _check_directory(data: bytes) -> None:
    """A zip's directory is read before any of its files, however long it is."""
    end = data[-22:]  # as numpy writes it, with no comment and for two files
    if len(end) < 22 or end[:4] != b"PK\5\6" or data[-42:-38] == b"PK\6\7":
        raise ValueError("it is no file of arrays")
    if struct.unpack("<L", end[12:16])[0] > MAX_DIRECTORY_BYTES:
        raise ValueError("it has more than two arrays")


def _array(
    archive: zipfile.ZipFile, name: str, dtype: type[np.generic], shape: tuple[int, ...]
) -> NDArray[Any]:
    """(N, *shape)"""
    with archive.open(name) as file:
        try:
            version = np.lib.format.read_magic(file)
            found, fortran, kind = np.lib.format.read_array_header_1_0(file, MAX_HEADER_BYTES)
        except ValueError:  # its own words are for those who may trust the file
            version = None
        if version != (1, 0):
            raise ValueError(f"{name} has no header that can be read")
        if kind != dtype or found[1:] != shape or not 0 < found[0] <= MAX_PHOTOS:
            raise ValueError(
                f"{name} is {kind} of {str(found)[:80]}, expected {dtype.__name__} "
                f"of (1 to {MAX_PHOTOS}, {', '.join(map(str, shape))})"
            )
        values = file.read(math.prod(found) * kind.itemsize)
    return np.frombuffer(bytearray(values), dtype).reshape(found, order="F" if fortran else "C")
