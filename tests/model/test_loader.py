from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor

from alexnet.labels import Label, Labels
from training.augment import Views, draw
from training.data import Dataset
from training.loader import Loader, Order
from training.recipe import Recipe

RECIPE = Recipe("test", 1, view=(0.4, 1.0))
CPU = torch.device("cpu")


@pytest.fixture
def data() -> Dataset:
    rng = np.random.default_rng(0)
    labels = Labels(tuple(Label(name, name) for name in ("leaf", "sky", "moon")))
    images = rng.integers(0, 256, (20, 16, 16, 3), np.uint8)
    return Dataset(images, rng.integers(0, 3, 20), labels)


def orders(count: int) -> Iterator[Order]:
    for step in range(count):
        generator = torch.Generator().manual_seed(step)
        index = torch.randperm(20, generator=generator)[:6]
        yield Order(index, draw(RECIPE, 6, 16, 8, 0.0, generator))


def batches(
    data: Dataset, given: Iterator[Order], resident: bool
) -> list[tuple[Tensor, Tensor, Views]]:
    return list(Loader(data, CPU, resident).batches(given))


@pytest.mark.parametrize("resident", [True, False])
def test_a_batch_has_the_crops_and_classes_of_its_order(data: Dataset, resident: bool) -> None:
    pixels = torch.from_numpy(data.images)
    for order, (cut, targets, views) in zip(
        orders(5), batches(data, orders(5), resident), strict=True
    ):
        assert cut.shape == (6, *order.views.size, 3)
        assert torch.equal(cut, order.views.cut(pixels, order.index))
        assert targets.tolist() == data.targets[order.index.numpy()].tolist()
        assert torch.equal(views.gain, order.views.gain)


def test_streamed_batches_equal_resident_ones(data: Dataset) -> None:
    resident, streamed = (batches(data, orders(9), kind) for kind in (True, False))
    for ours, theirs in zip(streamed, resident, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours[:2], theirs[:2], strict=True))


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("resident", [True, False])
def test_there_are_as_many_batches_as_orders(data: Dataset, count: int, resident: bool) -> None:
    assert len(batches(data, orders(count), resident)) == count


def test_streaming_reads_exactly_one_order_ahead(data: Dataset) -> None:
    read: list[int] = []

    def count_orders() -> Iterator[Order]:
        for number, order in enumerate(orders(5)):
            read.append(number)
            yield order

    stream = Loader(data, CPU, resident=False).batches(count_orders())
    for number in range(4):
        next(stream)
        assert read[-1] == number + 1


@pytest.mark.parametrize("bad", [0, 2, 4])
def test_an_error_in_the_thread_is_raised_in_the_loop(data: Dataset, bad: int) -> None:
    given = list(orders(5))
    given[bad] = Order(given[bad].index + 20, given[bad].views)
    stream = Loader(data, CPU, resident=False).batches(iter(given))
    assert len(list(islice(stream, bad))) == bad
    with pytest.raises(IndexError):
        next(stream)


def test_photos_are_resident_on_a_cpu_by_default(data: Dataset) -> None:
    assert Loader(data, CPU).resident
    assert not Loader(data, CPU, resident=False).resident
