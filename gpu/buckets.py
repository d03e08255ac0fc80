"""An engine on a GPU, whatever runs the network: fixed batch sizes, staging, double buffering.

While a batch runs, the next one is gathered in page-locked memory and copied to the GPU by a stream
of its own. A batch is padded to the next size for which a CUDA graph was captured; what lies in the
rows behind it is computed along and thrown away.
"""

import logging
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

log = logging.getLogger(__name__)

Pending = Callable[[], NDArray[np.float32]]
"""Waits for the logits of a batch; to be called once, in the order in which batches began."""
Launch = Callable[[], None]
"""Puts one run on the stream it was prepared for, and returns at once."""


class Device(Protocol):
    """What is needed of a GPU; `gpu.cuda.CudaDevice` is one. Handles and addresses are ints."""

    number: int

    @property
    def bus_id(self) -> str: ...
    @property
    def about(self) -> str: ...
    def use(self) -> None: ...
    def memory(self, nbytes: int) -> int: ...
    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]: ...
    def stream(self) -> int: ...
    def event(self, timed: bool = False) -> int: ...
    def copy_in(self, address: int, array: NDArray[Any], stream: int) -> None: ...
    def copy_out(self, array: NDArray[Any], address: int, stream: int) -> None: ...
    def record(self, event: int, stream: int) -> None: ...
    def wait(self, stream: int, event: int) -> None: ...
    def synchronize(self, event: int) -> None: ...
    def elapsed_s(self, start: int, end: int) -> float: ...
    def graph(self, enqueue: Launch, stream: int) -> Launch: ...
    def close(self) -> None: ...


class Program(Protocol):
    """A network on one device, as one runtime has it."""

    name: str
    """Runtime and precision: `tensorrt-fp16`."""

    def prepare(self, size: int, images: int, logits: int, stream: int) -> Launch:
        """For batches of exactly `size`, between these addresses on the device: uint8 (size, side,
        side, 3) and float32 (size, classes). Warms up and captures."""

    def close(self) -> None: ...


class _Slot:
    """Where one batch lives from its gathering to its answer, and how it is launched there."""

    def __init__(
        self, device: Device, program: Program, sizes: Sequence[int], side: int, classes: int,
        stream: int,
    ):  # fmt: skip
        most = sizes[-1]
        self.images = device.pinned((most, side, side, 3), np.uint8)
        self.logits = device.pinned((most, classes), np.float32)
        self.images_at = device.memory(self.images.nbytes)
        self.logits_at = device.memory(self.logits.nbytes)
        self.begun, self.copied = device.event(timed=True), device.event(timed=True)
        self.started, self.done = device.event(timed=True), device.event(timed=True)
        # The largest first: the smaller ones fit into what it reserved.
        self.launch = {
            size: program.prepare(size, self.images_at, self.logits_at, stream)
            for size in reversed(sizes)
        }


class BucketEngine:
    on_cpu, threads, depth = False, 1, 2

    def __init__(
        self, device: Device, program: Program, sizes: Sequence[int], side: int, classes: int
    ):
        """`sizes` are rising; a larger batch than the last is refused. Takes ownership of both."""
        self.name = f"{program.name}:{device.number}"
        self.bus_id, self.gpu = device.bus_id, device.about
        self._device, self._program, self._sizes = device, program, list(sizes)
        self.copy_s = self.compute_s = 0.0
        """Of the GPU's time, all batches together."""
        self.runs = 0
        device.use()
        self._copying, self._computing = device.stream(), device.stream()
        self._free = deque(
            _Slot(device, program, self._sizes, side, classes, self._computing)
            for _ in range(self.depth)
        )

    def begin(self, crops: Sequence[NDArray[np.uint8]]) -> Pending:
        count, device = len(crops), self._device
        if not 1 <= count <= self._sizes[-1]:
            raise ValueError(f"a batch of {count}; this engine takes 1 to {self._sizes[-1]}")
        size = self._sizes[bisect_left(self._sizes, count)]
        device.use()
        slot = self._free.popleft()  # at most `depth` are under way
        try:
            np.stack(crops, out=slot.images[:count])
            device.record(slot.begun, self._copying)
            device.copy_in(slot.images_at, slot.images[:count], self._copying)
            device.record(slot.copied, self._copying)
            device.wait(self._computing, slot.copied)
            device.record(slot.started, self._computing)
            slot.launch[size]()
            device.copy_out(slot.logits[:count], slot.logits_at, self._computing)
            device.record(slot.done, self._computing)
        except BaseException:
            self._free.append(slot)
            raise
        return partial(self._finish, slot, count)

    def run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.begin(crops)()  # type: ignore[arg-type] # an array is a sequence of crops

    def _finish(self, slot: _Slot, count: int) -> NDArray[np.float32]:
        device = self._device
        try:
            device.synchronize(slot.done)
            self.copy_s += device.elapsed_s(slot.begun, slot.copied)
            self.compute_s += device.elapsed_s(slot.started, slot.done)
            self.runs += 1
            return slot.logits[:count].copy()  # the slot's next batch writes there
        finally:
            self._free.append(slot)

    def close(self) -> None:
        """Raises nothing: what cannot be freed is logged, and the rest is."""
        try:
            self._device.use()  # this thread may not have, and what is freed belongs to it
            self._program.close()
        except Exception:  # each runtime has its own, without a common base
            log.exception("%s could not be closed", self.name)
        self._device.close()
