"""Batches of cropped photos on the training device: resident there if they fit, else streamed."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from training.augment import Views
from training.data import Dataset
from training.pools import Pool
from training.softlabels import Answers

_SHARE = 0.5  # of the free memory of the device; the rest is for the network
_Order = TypeVar("_Order")
_Batch = TypeVar("_Batch")


@dataclass(frozen=True)
class Order:
    """Photos of one step and their augmentation."""

    index: Tensor
    """(N,) int64"""
    views: Views
    numbers: Tensor | None = None
    """(N,) int64: which of a teacher's views these are."""


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
        return _cut_each(orders, self.cut, ahead=not self.resident)

    def cut(self, order: Order) -> tuple[Tensor, Tensor, Views]:
        cut = order.views.cut(self.images, order.index)
        if self.device.type == "cuda" and not self.resident:
            cut = cut.pin_memory()
        targets = self.targets[order.index]
        return (
            cut.to(self.device, non_blocking=True),
            targets.to(self.device, non_blocking=True),
            order.views,
        )


class Part(NamedTuple):
    """The photos of one pool in a batch; all tensors are on the device."""

    cut: Tensor
    targets: Tensor
    views: Views
    answers: list[Answers]
    """Of each teacher; empty without one."""


class PoolLoader:
    """The batches of several pools: a part of each."""

    def __init__(self, pools: Sequence[Pool], device: torch.device):
        self.pools, self.device = pools, device
        self.loaders = [Loader(pool.data, device) for pool in pools]

    def batches(self, orders: Iterator[Sequence[Order]]) -> Iterator[list[Part]]:
        """The parts of each batch that have photos."""
        ahead = not all(loader.resident for loader in self.loaders)
        return _cut_each(orders, self._cut, ahead=ahead)

    def _cut(self, orders: Sequence[Order]) -> list[Part]:
        parts = []
        for pool, loader, order in zip(self.pools, self.loaders, orders, strict=True):
            if len(order.index):
                parts.append(Part(*loader.cut(order), self._answers(pool, order)))
        return parts

    def _answers(self, pool: Pool, order: Order) -> list[Answers]:
        if order.numbers is None:
            return []
        read = [soft.answers(order.index, order.numbers) for soft in pool.soft]
        return [Answers(*(value.to(self.device) for value in answers)) for answers in read]


def _cut_each(
    orders: Iterator[_Order], cut: Callable[[_Order], _Batch], *, ahead: bool
) -> Iterator[_Batch]:
    """`cut` of each order; in a thread and one ahead of its use if `ahead`."""
    if not ahead:
        yield from map(cut, orders)
        return
    with ThreadPoolExecutor(1) as thread:
        waiting = None
        for order in orders:
            following = thread.submit(cut, order)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()
