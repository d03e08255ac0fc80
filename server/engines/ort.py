"""ONNX Runtime on the CPU."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from alexnet.int8_kernels import exact_sums
from alexnet.manifest import Manifest
from alexnet.onnx_runtime import onnxruntime
from server.engines.activation import Activation, Inside
from server.engines.base import Pending
from server.engines.onnx_file import also_giving, read_onnx
from server.engines.saturation import narrowed

PROFILED = 7
"""Runs; the first are cold."""


@contextmanager
def _in_file(*onnx: bytes | memoryview) -> Iterator[bytes | str]:
    """The name of a file that lies in memory: from bytes ONNX Runtime copies and parses with the
    interpreter's lock held, and no request is answered for 40 ms (61 MB, two cores)."""
    if not hasattr(os, "memfd_create"):  # Linux has it
        yield b"".join(onnx)
        return
    with os.fdopen(os.memfd_create("model"), "wb") as file:
        file.writelines(onnx)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def session_options(threads: int, exact: bool = True) -> onnxruntime.SessionOptions:
    """Without `exact` int8 may saturate, and takes two thirds of the time on a CPU that does."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Between batches the threads sleep: spinning would take the cores from the decoders.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if exact:
        exact_sums(options)
    options.log_severity_level = 3
    return options


def new_session(
    model: bytes | str, options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def profile(onnx: bytes, manifest: Manifest, threads: int, exact: bool = True) -> dict[str, float]:
    """Node -> ms that it takes for one crop, the median of some runs of a session of its own. Where
    several nodes run as one, that has the name of the first or of the last. Raises OSError without
    a folder for what ONNX Runtime writes."""
    options = session_options(threads, exact)
    crop = np.zeros((1, *[manifest.preprocess.crop] * 2, 3), np.uint8)
    with TemporaryDirectory() as folder:
        options.enable_profiling, options.profile_file_prefix = True, f"{folder}/profile"
        with _in_file(onnx) as model:
            session = new_session(model, options)
        for _ in range(PROFILED):
            session.run([manifest.output.name], {manifest.input.name: crop})
        events = json.loads(Path(session.end_profiling()).read_bytes())
    times: dict[str, list[float]] = {}
    for event in events:
        name, kernel, _ = event["name"].partition("_kernel_time")
        if kernel:
            name = re.sub(r"^fused |_token_\d+$|_nchwc$", "", name)
            times.setdefault(name, []).append(event["dur"] / 1000)
    return {name: median(each) for name, each in times.items()}


class OrtEngine:
    name, on_cpu, depth = "onnxruntime-cpu", True, 1

    def __init__(self, onnx: bytes, manifest: Manifest, threads: int, narrow: bool = False):
        """`narrow`: the first layer in 7 bits and the kernels that saturate. Raises ValueError for
        a graph that cannot be narrowed."""
        parts = narrowed(onnx) if narrow else [onnx]
        if not parts:
            raise ValueError("the first layer is none that is known")
        self.threads, self.exact = threads, not narrow
        self._input, self._output = manifest.input.name, manifest.output.name
        self.activation = Activation.of(read_onnx(onnx))
        self._inside = self.activation.outputs if self.activation else ()
        # Outputs that are not asked for cost nothing: the int8 layers stay as fused as they were.
        with _in_file(*parts, also_giving(self._inside)) as model:
            self._session = new_session(model, session_options(threads, self.exact))

    def begin(self, crops: Sequence[NDArray[np.uint8]]) -> Pending:
        return lambda: self.run(np.stack(crops))

    def run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits: NDArray[np.float32]
        (logits,) = self._session.run([self._output], {self._input: crops})
        return logits

    def look_inside(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], list[Inside]]:
        """The logits, and for each crop what `activation` needs."""
        outputs = [self._output, *self._inside]
        logits, *inside = self._session.run(outputs, {self._input: crops})
        return logits, list(zip(*inside, strict=True))

    def close(self) -> None:
        del self._session
