"""A BucketEngine on a fake device, with a program that needs no network."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gpu.buckets import BucketEngine
from tests.gpus import FakeDevice

SIDE, CLASSES = 4, 10


class FakeProgram:
    """Names a crop by its brightness over 25, as tests.fakes.FakeEngine does."""

    name = "fake-fp16"

    def __init__(self, device: FakeDevice):
        self._device = device
        self.prepared: list[int] = []
        self.launched: list[int] = []
        self.fail = self.closed = False
        self.sticks = False

    def prepare(self, size: int, images: int, logits: int, stream: int) -> Callable[[], None]:
        self.prepared.append(size)

        def work() -> None:
            crops = self._device.at(images, (size, SIDE, SIDE, 3), np.uint8)
            rows = self._device.at(logits, (size, CLASSES), np.float32)
            rows[:] = 0
            classes = crops.reshape(size, -1).mean(1) // 25
            rows[np.arange(size), np.minimum(classes, CLASSES - 1).astype(int)] = 9

        replay = self._device.graph(lambda: self._device.enqueue(stream, work), stream)

        def launch() -> None:
            if self.fail:
                raise RuntimeError("the launch failed")
            self.launched.append(size)
            replay()

        return launch

    def close(self) -> None:
        if self.sticks:
            raise RuntimeError("an illegal address")
        self.closed = True


def engine_of(seed: int = 0) -> tuple[BucketEngine, FakeDevice, FakeProgram]:
    device = FakeDevice(seed)
    program = FakeProgram(device)
    return BucketEngine(device, program, (1, 2, 4, 8), SIDE, CLASSES), device, program


def crops(*values: int) -> NDArray[np.uint8]:
    return np.stack([np.full((SIDE, SIDE, 3), value, np.uint8) for value in values])
