"""ONNX Runtime on an NVIDIA GPU: by its own CUDA kernels, or by TensorRT inside it.

Left alone it runs on the CPU whatever it misses, and tells stderr; here that is an error. Its own
CUDA graphs are not used: those of the CUDA provider belong to the thread that captured them, and
the TensorRT provider keeps one, whatever the shape. Ours capture what one run puts on the stream.
https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
"""

import ctypes
import logging
import re
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module, metadata
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from alexnet.onnx_runtime import onnxruntime
from alexnet.spec import INPUT_NAME
from gpu.buckets import Device, Launch

log = logging.getLogger(__name__)

# One measures cuDNN's algorithms, one reserves memory as planned since: a capture may do neither.
WARM_UPS = 2
# The server depends on onnxruntime, which is the same module: the one installed last counts.
REINSTALL = "pip install --force-reinstall --no-deps onnxruntime-gpu"
# By how a library's name begins: what brings it, for ONNX Runtime 1.31.
BRINGS = {
    ("libcuda.",): "NVIDIA's driver",
    ("libnvinfer", "libnvonnxparser"): "TensorRT 10, pip install 'tensorrt-cu13<11'",
    ("lib",): "CUDA 13 and cuDNN 9, pip install 'onnxruntime-gpu[cuda,cudnn]' nvidia-cublas",
}
PRECISIONS = {
    "cuda": ("fp32", "fp16", "int8", "fp8"),
    "tensorrt": ("fp32", "fp16", "bf16", "int8"),  # TensorRT 10 has fp8 in strong typing alone
}


class ProviderError(RuntimeError):
    """ONNX Runtime cannot use the GPU; the message says what it misses and what brings it."""


@dataclass(frozen=True)
class Provider:
    """One of ONNX Runtime's two ways to a GPU, set up for one precision."""

    name: str
    registered: str
    """Its name in ONNX Runtime."""
    precision: str
    options: dict[str, str]
    engines: Path | None = None


def cuda(precision: str) -> Provider:
    """What is stored in 8 bits is computed in float16."""
    options = {
        "prefer_nhwc": "1",
        "fuse_conv_bias": "1",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        # Refuses what could not be captured, and keeps what a captured run copies from.
        "enable_cuda_graph": "1",
    }
    return Provider("cuda", "CUDAExecutionProvider", precision, options)


def tensorrt(precision: str, sizes: Sequence[int], side: int, engines: Path | None) -> Provider:
    """One engine for batches from the first size to the last, tuned for the middle one.

    It is kept in the folder `engines`, if there is one, which is named after a key of all that goes
    into it: ONNX Runtime itself does not look at the weights before it takes an engine.
    """
    kinds = {"fp32": (), "int8": ("fp16", "int8")}.get(precision, (precision,))
    options = {f"trt_{kind}_enable": "True" for kind in kinds}
    shapes = {"min": sizes[0], "opt": sizes[len(sizes) // 2], "max": sizes[-1]}
    for which, size in shapes.items():
        options[f"trt_profile_{which}_shapes"] = f"{INPUT_NAME}:{size}x{side}x{side}x3"
    return Provider("tensorrt", "TensorrtExecutionProvider", precision, options, engines)


def version() -> str:
    """Of ONNX Runtime and of the TensorRT it is given: part of the key of an engine."""
    names = metadata.packages_distributions().get("tensorrt_libs", [])
    return " ".join([onnxruntime.__version__, *map(metadata.version, names)])


class OrtProgram:
    """Runs a graph of `gpu.typed` on the stream of its first `prepare`: a session has only one."""

    def __init__(self, device: Device, onnx: bytes, provider: Provider):
        """Raises ValueError when the provider does not have the precision."""
        self.name = f"onnxruntime-{provider.name}-{provider.precision}"
        if provider.precision not in (has := PRECISIONS[provider.name]):
            raise ValueError(f"there is no {self.name}: choose one of {', '.join(has)}")
        self._device, self._onnx, self._provider = device, onnx, provider
        self._session: Any = None
        self._waiting, self._at_once = onnxruntime.RunOptions(), onnxruntime.RunOptions()
        for options in (self._waiting, self._at_once):
            options.add_run_config_entry("gpu_graph_id", "-1")  # no graph of its own
        self._at_once.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def prepare(self, size: int, images: int, logits: int, stream: int) -> Launch:
        """Raises ProviderError."""
        if self._session is None:
            self._session, self._stream = self._open(stream), stream
        assert stream == self._stream, "a session has one stream"
        (given,), (wanted,) = self._session.get_inputs(), self._session.get_outputs()
        binding, place = self._session.io_binding(), ("cuda", self._device.number)
        binding.bind_input(given.name, *place, np.uint8, (size, *given.shape[1:]), images)
        binding.bind_output(wanted.name, *place, np.float32, (size, *wanted.shape[1:]), logits)
        warm_up = partial(self._session.run_with_iobinding, binding, self._waiting)
        enqueue = partial(self._session.run_with_iobinding, binding, self._at_once)
        try:
            for _ in range(WARM_UPS):
                warm_up()
        except Exception as error:  # ONNX Runtime's have no common base; cuDNN is loaded only now
            raise ProviderError(self._complaint(error)) from error
        try:
            return self._device.graph(enqueue, stream)
        except Exception as error:
            log.warning("%s runs batches of %d without a CUDA graph: %s", self.name, size, error)
        with suppress(Exception):  # what CUDA remembers of it
            warm_up()
        warm_up()
        return enqueue

    def close(self) -> None:
        self._session = None

    def _open(self, stream: int) -> Any:
        with redirect_stdout(StringIO()):  # it prints what it does not find
            onnxruntime.preload_dlls()
        engines = self._provider.engines
        with suppress(ImportError):
            if engines is not None:
                import_module("tensorrt_libs")  # loads them
        if engines is None:
            return self._session_with(stream, None)
        try:
            if engines.is_dir():
                return self._session_with(stream, engines)
            engines.parent.mkdir(parents=True, exist_ok=True)
            # What a crash leaves half written is never taken for an engine.
            unfinished = tempfile.TemporaryDirectory(dir=engines.parent)
        except OSError as error:
            log.warning("the engine is not kept for the next start: %s", error)
            return self._session_with(stream, None)
        log.info("%s builds its engine: minutes, this first time", self.name)
        with unfinished as folder:
            session = self._session_with(stream, Path(folder))
            Path(folder).chmod(0o755)  # as plans are: for other users, too
            with suppress(OSError):  # another process was faster
                Path(folder).rename(engines)
        return session

    def _session_with(self, stream: int, engines: Path | None) -> Any:
        settings = {"device_id": str(self._device.number), "user_compute_stream": str(stream)}
        settings |= self._provider.options
        if engines is not None:
            for cache in ("trt_engine_cache", "trt_timing_cache"):
                settings |= {f"{cache}_enable": "True", f"{cache}_path": str(engines)}
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        # Otherwise pairs of Q and DQ become operators that only the CPU has.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        wanted = self._provider.registered
        asked = [(wanted, settings)]
        try:
            session = onnxruntime.InferenceSession(self._onnx, options, asked, enable_fallback=0)
        except Exception as error:
            raise ProviderError(self._complaint(error)) from error
        if wanted not in (got := session.get_providers()):
            raise ProviderError(self._complaint(RuntimeError(f"it took {' and '.join(got)}")))
        return session

    def _complaint(self, error: Exception) -> str:
        wanted, reason = self._provider.registered, str(error).partition("\n")[0]
        if wanted not in onnxruntime.get_available_providers():
            reason = f"the installed one is built without it: {REINSTALL}"
        elif library := _missing_library(self._provider.name, reason):
            brings = next(what for start, what in BRINGS.items() if library.startswith(start))
            reason = f"{library} could not be loaded: install {brings}"
        return f"ONNX Runtime cannot use {wanted} on GPU {self._device.number}: {reason}"


def _missing_library(provider: str, error: str) -> str | None:
    """ONNX Runtime may tell only stderr what it could not load, so that it is tried again."""
    name = f"libonnxruntime_providers_{provider}.so"
    try:
        ctypes.CDLL(str(Path(onnxruntime.__file__).parent / "capi" / name))
    except OSError as again:
        error = f"{error} {again}"
    found = re.search(r"(lib[^\s/]+): cannot open shared object file", error)
    return found[1] if found else None
