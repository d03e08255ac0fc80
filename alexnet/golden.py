"""The golden batch: crops, and the logits that the trained network gave for them.

It travels in the bundle and goes through the engine at start: a server that does not compute what
was trained does not become ready.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alexnet.postprocess import softmax


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
    def from_bytes(cls, data: bytes) -> "Golden":
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return cls(arrays["crops"], arrays["logits"])
