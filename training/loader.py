"""Batches of cropped photos on the training device: resident there if they fit, else streamed."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from training.augment import Views
from training.data import Dataset

_SHARE = 0.5  # of the free memory of the device; the rest is for the network


@dataclass(frozen=True)
class Order:
    """The batch of one step: its photos and their augmentation."""

    index: Tensor
    """(N,) int64"""
    views: Views


class Loader:
    """Crops the photos of each order; if they are not resident, one order ahead of training.

    The device crops resident photos in microseconds. Otherwise a thread crops them on the CPU,
    reading only the pixels that are used, into pinned memory; they are copied from there while the
    device computes.
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
        """(N, h, w, 3) uint8 crops and (N,) targets on the device, and the views to apply."""
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
