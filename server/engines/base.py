"""What every runtime offers the batcher."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from server.engines.activation import Activation, Inside

Pending = Callable[[], NDArray[np.float32]]
"""Waits for the logits of a batch; to be called once, in the order in which batches began."""


class Engine(Protocol):
    """Used by one thread at a time."""

    name: str
    """Runtime and device, for the log and the metrics: `onnxruntime-cpu`."""
    threads: int
    on_cpu: bool
    """It shares the cores with the decoders."""
    depth: int
    """Batches that may be under way at once: 2 where the next is copied while one runs."""

    def begin(self, crops: Sequence[NDArray[np.uint8]]) -> Pending:
        """Of (crop, crop, 3) each, gathered by the runtime where it wants them."""

    def run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, crop, crop, 3) -> (N, classes) logits."""

    def close(self) -> None: ...


@runtime_checkable
class LooksInside(Engine, Protocol):
    """An engine that can also give what happens inside of the network."""

    activation: Activation | None
    """None for a graph that it does not know."""

    def look_inside(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], list[Inside]]:
        """(N, crop, crop, 3) -> (N, classes) logits, and what `activation` needs of each."""
