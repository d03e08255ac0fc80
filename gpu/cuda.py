"""One GPU's memory, streams, events and graphs, by NVIDIA's own bindings of the CUDA runtime.

Handles and addresses are ints. Every call returns at once but `synchronize` and those that reserve
memory. https://nvidia.github.io/cuda-python/cuda-bindings/latest/module/runtime.html
"""

import ctypes
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from cuda.bindings import runtime
from numpy.typing import DTypeLike, NDArray


class CudaError(RuntimeError):
    """A call to the driver failed; the message has the driver's own words."""


def _checked(result: tuple[Any, ...], doing: str) -> Any:
    error, *values = result
    if error != runtime.cudaError_t.cudaSuccess:
        _, text = runtime.cudaGetErrorString(error)
        raise CudaError(f"{doing}: {text.decode()} ({error.name})")
    return values[0] if values else None


class CudaDevice:
    """Frees at `close` what it reserved. A thread that uses it calls `use` first."""

    def __init__(self, number: int = 0):
        self.number = number
        self._freeing: list[Callable[[], Any]] = []
        self.use()

    def use(self) -> None:
        """CUDA keeps a current device for each thread; takes well below a microsecond."""
        _checked(runtime.cudaSetDevice(self.number), f"GPU {self.number} cannot be used")

    @property
    def bus_id(self) -> str:
        """Of PCI, as `0000:3B:00.0`: CUDA and the driver's own tools count GPUs differently."""
        found = runtime.cudaDeviceGetPCIBusId(32, self.number)
        return _checked(found, "asking for the PCI bus").decode().rstrip("\0")

    def memory(self, nbytes: int) -> int:
        """The address of so many zeros on the GPU."""
        address = int(_checked(runtime.cudaMalloc(nbytes), f"no room for {nbytes:,} bytes"))
        self._freeing.append(lambda: runtime.cudaFree(address))
        _checked(runtime.cudaMemset(address, 0, nbytes), "clearing memory")
        return address

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Page-locked host memory: what copies need to run beside everything else."""
        count, kind = int(np.prod(shape)), np.dtype(dtype)
        nbytes = count * kind.itemsize
        got = runtime.cudaHostAlloc(nbytes, runtime.cudaHostAllocDefault)
        address = int(_checked(got, f"no room for {nbytes:,} bytes of page-locked memory"))
        self._freeing.append(lambda: runtime.cudaFreeHost(address))
        buffer = memoryview((ctypes.c_uint8 * nbytes).from_address(address))
        return np.frombuffer(buffer, kind, count).reshape(shape)

    def stream(self) -> int:
        flags = runtime.cudaStreamNonBlocking
        stream = int(_checked(runtime.cudaStreamCreateWithFlags(flags), "making a stream"))
        self._freeing.append(lambda: runtime.cudaStreamDestroy(stream))
        return stream

    def event(self, timed: bool = False) -> int:
        """Only timed ones take part in `elapsed_s`."""
        flags = runtime.cudaEventDefault if timed else runtime.cudaEventDisableTiming
        event = int(_checked(runtime.cudaEventCreateWithFlags(flags), "making an event"))
        self._freeing.append(lambda: runtime.cudaEventDestroy(event))
        return event

    def copy_in(self, address: int, array: NDArray[Any], stream: int) -> None:
        """`array` is contiguous, and stays as it is until the copy is done."""
        kind = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        done = runtime.cudaMemcpyAsync(address, array.ctypes.data, array.nbytes, kind, stream)
        _checked(done, "copying to the GPU")

    def copy_out(self, array: NDArray[Any], address: int, stream: int) -> None:
        kind = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        done = runtime.cudaMemcpyAsync(array.ctypes.data, address, array.nbytes, kind, stream)
        _checked(done, "copying from the GPU")

    def record(self, event: int, stream: int) -> None:
        _checked(runtime.cudaEventRecord(event, stream), "recording an event")

    def wait(self, stream: int, event: int) -> None:
        """What is put on the stream from now on runs after the event."""
        _checked(runtime.cudaStreamWaitEvent(stream, event, 0), "waiting for an event")

    def synchronize(self, event: int) -> None:
        """Blocks this thread, without the GIL; an error of anything before comes out here."""
        _checked(runtime.cudaEventSynchronize(event), "running on the GPU")

    def elapsed_s(self, start: int, end: int) -> float:
        return _checked(runtime.cudaEventElapsedTime(start, end), "timing") / 1000

    def graph(self, enqueue: Callable[[], None], stream: int) -> Callable[[], None]:
        """Captures what `enqueue` puts on the stream; the result puts all of it there in one call.

        Addresses are part of the graph; warm up before, since nothing may be reserved meanwhile.
        """
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _checked(runtime.cudaStreamBeginCapture(stream, mode), "beginning to capture")
        try:
            enqueue()
        except BaseException:
            with suppress(CudaError):  # the first error is the one to tell
                _checked(runtime.cudaStreamEndCapture(stream), "ending to capture")
            raise
        graph = _checked(runtime.cudaStreamEndCapture(stream), "capturing a graph")
        executable = _checked(runtime.cudaGraphInstantiate(graph, 0), "making a graph")
        _checked(runtime.cudaGraphDestroy(graph), "freeing a graph")
        self._freeing.append(lambda: runtime.cudaGraphExecDestroy(executable))
        _checked(runtime.cudaGraphUpload(executable, stream), "uploading a graph")
        return lambda: _checked(runtime.cudaGraphLaunch(executable, stream), "launching a graph")

    def close(self) -> None:
        """Waits for what is under way, then frees everything, the last first."""
        self.use()
        runtime.cudaDeviceSynchronize()
        while self._freeing:
            self._freeing.pop()()
