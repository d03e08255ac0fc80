"""What every runtime offers the batcher."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Engine(Protocol):
    """Runs on one thread at a time."""

    name: str
    """Runtime and device, for the log and the metrics: `onnxruntime-cpu`."""
    threads: int
    on_cpu: bool
    """It shares the cores with whoever decodes."""

    def run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, crop, crop, 3) -> (N, classes) logits."""

    def close(self) -> None: ...
