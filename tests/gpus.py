"""A fake GPU: its streams run late, and in any order that the events allow."""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class FakeDevice:
    """Nothing runs before `synchronize`, and then streams advance in random order. Code that reads
    too early, or writes over memory that is still to be read, gets wrong numbers."""

    number, bus_id, about = 0, "0000:3B:00.0", "NVIDIA Fake, CUDA 13000"

    def __init__(self, seed: int = 0):
        self._dice = Random(seed)
        self._memory: dict[int, NDArray[np.uint8]] = {}
        self._streams: dict[int, deque[Callable[[], bool]]] = {}
        self._recorded: dict[int, int] = {}
        self._reached: dict[int, int] = {}
        self._next = 1
        self.copied_in: list[int] = []
        """Bytes of each copy to the device."""
        self.capturing = False
        self.captured = 0
        self.closed = False
        self.used = 0

    def _handle(self) -> int:
        self._next += 1
        return self._next << 32

    def use(self) -> None:
        self.used += 1

    def memory(self, nbytes: int) -> int:
        address = self._handle()
        self._memory[address] = np.zeros(nbytes, np.uint8)
        return address

    def at(self, address: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """The memory at an address of the device, to read and to write."""
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self._memory[address][:count].view(dtype).reshape(shape)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        return np.zeros(shape, dtype)

    def stream(self) -> int:
        handle = self._handle()
        self._streams[handle] = deque()
        return handle

    def event(self, timed: bool = False) -> int:
        handle = self._handle()
        self._recorded[handle] = self._reached[handle] = 0
        return handle

    def enqueue(self, stream: int, work: Callable[[], object]) -> None:
        """In place of a kernel launch."""

        def step() -> bool:
            work()
            return True

        self._streams[stream].append(step)

    def copy_in(self, address: int, array: NDArray[Any], stream: int) -> None:
        assert array.flags.c_contiguous
        self.copied_in.append(array.nbytes)

        def work() -> None:
            self.at(address, array.shape, array.dtype)[:] = array

        self.enqueue(stream, work)

    def copy_out(self, array: NDArray[Any], address: int, stream: int) -> None:
        def work() -> None:
            array[:] = self.at(address, array.shape, array.dtype)

        self.enqueue(stream, work)

    def record(self, event: int, stream: int) -> None:
        self._recorded[event] += 1
        number = self._recorded[event]

        def work() -> None:
            self._reached[event] = number

        self.enqueue(stream, work)

    def wait(self, stream: int, event: int) -> None:
        number = self._recorded[event]
        self._streams[stream].append(lambda: self._reached[event] >= number)

    def synchronize(self, event: int) -> None:
        number = self._recorded[event]
        while self._reached[event] < number:
            moved = False
            streams = [stream for stream in self._streams.values() if stream]
            self._dice.shuffle(streams)
            for stream in streams:
                if stream[0]():
                    stream.popleft()
                    moved = True
                    break
            assert moved, "a deadlock: every stream waits"

    def elapsed_s(self, start: int, end: int) -> float:
        assert self._reached[start]
        assert self._reached[end]
        return 0.001

    def graph(self, enqueue: Callable[[], None], stream: int) -> Callable[[], None]:
        before = len(self._streams[stream])
        enqueue()
        steps = [self._streams[stream].pop() for _ in range(len(self._streams[stream]) - before)]
        self.captured += 1
        return lambda: self._streams[stream].extend(reversed(steps))

    def close(self) -> None:
        self.closed = True
