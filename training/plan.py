"""Which photos each step trains on, and how they are augmented: a function of seed and step."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from training.augment import Views, draw
from training.batches import Batches
from training.loader import Order
from training.pixels import IMAGENET, Pixels
from training.pools import Pool, split
from training.recipe import Recipe


class Plan:
    """The batches of this process, the `part` (rank, count) of the batches of all.

    Every photo of a single pool is in one batch of each epoch. Of several pools each batch is full
    and has the same number of photos of each; those that an epoch leaves out come in another.
    """

    def __init__(self, recipe: Recipe, pools: Sequence[Pool], part: tuple[int, int]):
        """Raises ValueError if there are fewer photos than in a batch."""
        self.recipe, self.pools, self.part = recipe, pools, part
        photos = sum(len(pool.data) for pool in pools)
        if photos < recipe.batch:
            raise ValueError(
                f"{photos} photos are fewer than one batch of {recipe.batch}: "
                "pass a smaller --batch"
            )
        self.shares = split(recipe.batch, pools)
        """The photos of each pool in a full batch."""
        full = photos - photos % recipe.batch
        self.batches = Batches.of(recipe, photos if len(pools) == 1 else full, part[1])
        """Of an epoch."""
        self.steps = len(self.batches) * recipe.epochs

    def orders(self, epoch: int, first: int, pixels: Pixels = IMAGENET) -> Iterator[list[Order]]:
        """The batches of an epoch from its step `first` on: an order for each pool."""
        recipe, batches = self.recipe, self.batches
        drawn = recipe.seed_at(-1 - epoch if recipe.reshuffle else -1)
        shuffle = torch.Generator().manual_seed(drawn)
        own = [batches]
        if len(self.pools) > 1:
            own = [Batches(share * len(batches), share) for share in self.shares]
        epochs = [
            pool.epoch(batches.photos, recipe.balance, shuffle)
            for pool, batches in zip(self.pools, own, strict=True)
        ]
        for i in range(first, len(batches)):
            step = epoch * len(batches) + i
            generator = torch.Generator().manual_seed(recipe.seed_at(step))
            noise = recipe.colour_noise if step < recipe.noise_until * self.steps else 0.0
            offset, orders = 0, []
            for pool, photos, places in zip(self.pools, epochs, own, strict=True):
                index = photos[places.place(i)]
                side, px = pool.data.images.shape[1], recipe.size_at(epoch)
                views = draw(recipe, len(index), side, px, noise, generator, pixels)
                orders.append(self._own(_order(pool, index, views, generator), offset))
                offset += len(index)
            yield orders

    def _own(self, order: Order, offset: int) -> Order:
        """The photos of this process: every `count`-th of the whole batch."""
        rank, count = self.part
        first = (rank - offset) % count
        numbers = None if order.numbers is None else order.numbers[first::count]
        return Order(order.index[first::count], order.views.part(first, count), numbers)


def _order(pool: Pool, index: torch.Tensor, views: Views, generator: torch.Generator) -> Order:
    """Photos of one pool; if there is a teacher, in the crops that it saw, mirrored or not."""
    if not pool.soft:
        return Order(index, views)
    origin, side = pool.soft[0].origin, pool.data.images.shape[1]
    numbers = torch.randint(origin.views, (len(index),), generator=generator)
    boxes = replace(origin.boxes(index, numbers, side), mirrored=views.mirrored)
    return Order(index, views.of(boxes), numbers)
