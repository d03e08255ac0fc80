"""ONNX Runtime on the CPU."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from alexnet.manifest import Manifest
from alexnet.spec import ORT_EXACT_INT8
from server.engines.base import Pending


@contextmanager
def _in_file(onnx: bytes) -> Iterator[bytes | str]:
    """The name of a file that lies in memory: from bytes ONNX Runtime copies and parses with the
    interpreter's lock held, and no request is answered for 40 ms (61 MB, two cores)."""
    if not hasattr(os, "memfd_create"):  # Linux has it
        yield onnx
        return
    with os.fdopen(os.memfd_create("model"), "wb") as file:
        file.write(onnx)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


class OrtEngine:
    name, on_cpu, depth = "onnxruntime-cpu", True, 1

    def __init__(self, onnx: bytes, manifest: Manifest, threads: int):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Between batches the threads sleep: spinning would take the cores from the decoders.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry(*ORT_EXACT_INT8)
        options.log_severity_level = 3
        self.threads = threads
        self._input, self._output = manifest.input.name, manifest.output.name
        with _in_file(onnx) as model:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )

    def begin(self, crops: Sequence[NDArray[np.uint8]]) -> Pending:
        return lambda: self.run(np.stack(crops))

    def run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits: NDArray[np.float32]
        (logits,) = self._session.run([self._output], {self._input: crops})
        return logits

    def close(self) -> None:
        del self._session
