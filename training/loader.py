"""Batches of cut photos on the training device: resident there if they fit, else streamed."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from training.augment import Views
from training.data import Dataset

_SHARE = 0.5  # of the memory that is free on the device; the rest is the network's


@dataclass(frozen=True)
class Order:
    """One step's work: which photos, and how they are seen."""

    index: Tensor
    """(N,) int64"""
    views: Views


class Loader:
    """Cuts the photos of each order, one order ahead of the training where that helps.

    Resident photos are cut by the device in microseconds. Otherwise a thread cuts them on the CPU,
    of the mapped file only the pixels that are used, into pinned memory, from where they are copied
    while the device computes.
    """

    def __init__(self, data: Dataset, device: torch.device, resident: bool | None = None):
        self.device = device
        self.images = torch.from_numpy(data.images)
        self.targets = torch.from_numpy(data.targets)
        if resident is None:
            resident = device.type == "cpu" or self._fits()
        self.resident = resident
        if resident:
            self.images = self.images.to(device)

    def _fits(self) -> bool:
        free, _ = torch.cuda.mem_get_info(self.device)
        return self.images.nbytes <= _SHARE * free

    def batches(self, orders: Iterator[Order]) -> Iterator[tuple[Tensor, Tensor, Views]]:
        """(N, h, w, 3) uint8 and (N,) targets on the device, and the views still to be applied."""
        if self.resident:
            for order in orders:
                yield self._cut(order)
            return
        with ThreadPoolExecutor(1) as thread:
            ahead = None
            for order in orders:
                following = thread.submit(self._cut, order)
                if ahead is not None:
                    yield ahead.result()
                ahead = following
            if ahead is not None:
                yield ahead.result()

    def _cut(self, order: Order) -> tuple[Tensor, Tensor, Views]:
        cut = order.views.cut(self.images, order.index)
        if self.device.type == "cuda" and not self.resident:
            cut = cut.pin_memory()
        targets = self.targets[order.index]
        return (
            cut.to(self.device, non_blocking=True),
            targets.to(self.device, non_blocking=True),
            order.views,
        )
