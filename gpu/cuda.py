"""One GPU's memory, streams, events and graphs, through NVIDIA's bindings of the CUDA runtime.

Handles and addresses are ints. All calls are asynchronous except `synchronize`, `close` and those
that allocate memory, which is zeroed when they return. https://nvidia.github.io/cuda-python/cuda-bindings/latest/module/runtime.html
"""

import ctypes
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from cuda.bindings import runtime
from numpy.typing import DTypeLike, NDArray

from gpu.alone import ALONE

log = logging.getLogger(__name__)


class CudaError(RuntimeError):
    """A call to the driver failed; the message contains the driver's."""


def _check(result: tuple[Any, ...], doing: str) -> Any:
    error, *values = result
    if error != runtime.cudaError_t.cudaSuccess:
        _, text = runtime.cudaGetErrorString(error)
        raise CudaError(f"{doing}: {text.decode()} ({error.name})")
    return values[0] if values else None


class CudaDevice:
    """Owns what it allocates until `close`. A thread must call `use` before the other methods."""

    def __init__(self, number: int = 0):
        self.number = number
        self._free_calls: list[Callable[[], Any]] = []
        self.use()

    def use(self) -> None:
        """Makes this the current device of the thread; takes well below a microsecond."""
        _check(runtime.cudaSetDevice(self.number), f"GPU {self.number} cannot be used")

    @property
    def bus_id(self) -> str:
        """On PCI, as `0000:3B:00.0`: CUDA and the driver's tools number GPUs differently."""
        found = runtime.cudaDeviceGetPCIBusId(32, self.number)
        return _check(found, "asking for the PCI bus").decode().rstrip("\0")

    @property
    def about(self) -> str:
        """What it is, and the newest CUDA that its driver knows."""
        what = _check(runtime.cudaGetDeviceProperties(self.number), "asking what the GPU is")
        cuda = _check(runtime.cudaDriverGetVersion(), "asking for the driver's version")
        return f"{what.name.decode()}, CUDA {cuda}"

    def memory(self, nbytes: int) -> int:
        """The address of `nbytes` zeroed bytes on the GPU."""
        address = int(_check(runtime.cudaMalloc(nbytes), f"no room for {nbytes:,} bytes"))
        self._free_calls.append(lambda: runtime.cudaFree(address))
        _check(runtime.cudaMemset(address, 0, nbytes), "clearing memory")
        # It runs on the default stream, for which ours do not wait.
        _check(runtime.cudaStreamSynchronize(0), "clearing memory")
        return address

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Page-locked host memory, without which copies are not asynchronous."""
        count, kind = int(np.prod(shape)), np.dtype(dtype)
        nbytes = count * kind.itemsize
        got = runtime.cudaHostAlloc(nbytes, runtime.cudaHostAllocDefault)
        address = int(_check(got, f"no room for {nbytes:,} bytes of page-locked memory"))
        self._free_calls.append(lambda: runtime.cudaFreeHost(address))
        buffer = memoryview((ctypes.c_uint8 * nbytes).from_address(address))
        return np.frombuffer(buffer, kind, count).reshape(shape)

    def stream(self) -> int:
        flags = runtime.cudaStreamNonBlocking
        stream = int(_check(runtime.cudaStreamCreateWithFlags(flags), "making a stream"))
        self._free_calls.append(lambda: runtime.cudaStreamDestroy(stream))
        return stream

    def event(self, timed: bool = False) -> int:
        """`elapsed_s` needs timed events. Waiting for one sleeps: by default it takes a core, of
        which the decoders have too few."""
        flags = runtime.cudaEventBlockingSync
        if not timed:
            flags |= runtime.cudaEventDisableTiming
        event = int(_check(runtime.cudaEventCreateWithFlags(flags), "making an event"))
        self._free_calls.append(lambda: runtime.cudaEventDestroy(event))
        return event

    def copy_in(self, address: int, array: NDArray[Any], stream: int) -> None:
        """`array` must be contiguous, and unchanged until the copy is done."""
        kind = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        done = runtime.cudaMemcpyAsync(address, array.ctypes.data, array.nbytes, kind, stream)
        _check(done, "copying to the GPU")

    def copy_out(self, array: NDArray[Any], address: int, stream: int) -> None:
        kind = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        done = runtime.cudaMemcpyAsync(array.ctypes.data, address, array.nbytes, kind, stream)
        _check(done, "copying from the GPU")

    def record(self, event: int, stream: int) -> None:
        _check(runtime.cudaEventRecord(event, stream), "recording an event")

    def wait(self, stream: int, event: int) -> None:
        """Work that is enqueued on the stream from now on runs after the event."""
        _check(runtime.cudaStreamWaitEvent(stream, event, 0), "waiting for an event")

    def synchronize(self, event: int) -> None:
        """Blocks this thread, without the GIL; raises errors of all work before the event."""
        _check(runtime.cudaEventSynchronize(event), "running on the GPU")

    def elapsed_s(self, start: int, end: int) -> float:
        return _check(runtime.cudaEventElapsedTime(start, end), "timing") / 1000

    def graph(self, enqueue: Callable[[], None], stream: int) -> Callable[[], None]:
        """Captures the work that `enqueue` puts on the stream; the result launches all of it.

        Addresses are part of the graph. Warm up before, as nothing may be allocated meanwhile.
        """
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        with ALONE:
            _check(runtime.cudaStreamBeginCapture(stream, mode), "beginning to capture")
            try:
                enqueue()
            except BaseException:
                with suppress(CudaError):  # the first error is the one to report
                    _check(runtime.cudaStreamEndCapture(stream), "ending to capture")
                raise
            graph = _check(runtime.cudaStreamEndCapture(stream), "capturing a graph")
        executable = _check(runtime.cudaGraphInstantiate(graph, 0), "making a graph")
        _check(runtime.cudaGraphDestroy(graph), "freeing a graph")
        self._free_calls.append(lambda: runtime.cudaGraphExecDestroy(executable))
        _check(runtime.cudaGraphUpload(executable, stream), "uploading a graph")
        return lambda: _check(runtime.cudaGraphLaunch(executable, stream), "launching a graph")

    def close(self) -> None:
        """Waits for all work, then frees everything in reverse order; what fails is logged."""
        calls: list[Callable[[], Any]] = [lambda: runtime.cudaSetDevice(self.number)]
        calls += [runtime.cudaDeviceSynchronize, *reversed(self._free_calls)]
        self._free_calls.clear()
        success = runtime.cudaError_t.cudaSuccess
        with ALONE:
            failed = {error.name for call in calls if (error := call()[0]) != success}
        if failed:
            log.error(
                "of GPU %d not all could be freed: %s", self.number, ", ".join(sorted(failed))
            )
