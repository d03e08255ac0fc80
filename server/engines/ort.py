"""ONNX Runtime on the CPU."""

from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from alexnet.manifest import Manifest
from server.engines.base import Pending


class OrtEngine:
    name, on_cpu, depth = "onnxruntime-cpu", True, 1

    def __init__(self, onnx: bytes, manifest: Manifest, threads: int):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Between batches the threads sleep: spinning would take the cores from the decoders.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self.threads = threads
        self._input, self._output = manifest.input.name, manifest.output.name
        self._session = onnxruntime.InferenceSession(
            onnx, options, providers=["CPUExecutionProvider"]
        )

    def begin(self, crops: Sequence[NDArray[np.uint8]]) -> Pending:
        return lambda: self.run(np.stack(crops))

    def run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits: NDArray[np.float32]
        (logits,) = self._session.run([self._output], {self._input: crops})
        return logits

    def close(self) -> None:
        del self._session
