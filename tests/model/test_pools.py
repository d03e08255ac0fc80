"""The pools that batches are drawn from, and the plan of a run."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from alexnet.labels import Label, Labels
from training.augment import draw
from training.data import Dataset
from training.plan import Plan
from training.pools import MOST_REPEATS, Pool, balanced_weights, split
from training.recipe import SMOKE
from training.softlabels import Origin, SoftLabels, best

LABELS = Labels(tuple(Label(name, name) for name in ("a", "b", "c")))
SIDE = 16


def dataset(count: int, *, classes: bool = True) -> Dataset:
    rng = np.random.default_rng(count)
    targets = rng.integers(0, 3, count) if classes else np.full(count, -1)
    return Dataset(rng.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8), targets, LABELS)


def answered(classes: list[int], views: int = 2) -> SoftLabels:
    """The teacher names these classes with 90 % in each view."""
    probabilities = np.full((len(classes), 3), 0.05, np.float32)
    probabilities[np.arange(len(classes)), classes] = 0.9
    rows = best(probabilities.repeat(views, 0), 2)
    origin = Origin("t", "t", LABELS.to_tsv(), "p", len(classes), views, seed=5, view=(0.5, 1.0))
    return SoftLabels.of(origin, *(r.reshape(len(classes), views, *r.shape[1:]) for r in rows))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_one_pool_is_drawn_as_before_there_were_pools() -> None:
    """The same photos, crops and colours from the same seeds."""
    recipe = replace(SMOKE, batch=8, colour_noise=0.1, noise_until=0.5)
    plan = Plan(recipe, [Pool(dataset(37))], (0, 1))
    assert (plan.batches.counts, plan.steps) == ([8, 8, 8, 8, 5], 10)
    for epoch in (0, 1):
        shuffle = torch.Generator().manual_seed(2012 * 1_000_003 - (1 + epoch) * 7919)
        order = torch.randperm(37, generator=shuffle)
        for i, (planned,) in enumerate(plan.orders(epoch, 0)):
            step = 5 * epoch + i
            generator = torch.Generator().manual_seed(2012 * 1_000_003 + step * 7919)
            views = draw(
                recipe, plan.batches.count(i), SIDE, 64, 0.1 if step < 5 else 0.0, generator
            )
            assert torch.equal(planned.index, order[8 * i : 8 * i + 8])
            assert torch.equal(planned.views.tops, views.tops)
            assert torch.equal(planned.views.shift, views.shift)
            assert planned.views.size == views.size
            assert (planned.numbers, planned.views.boxes) == (None, None)


def test_an_epoch_resumes_in_its_middle() -> None:
    pools = [Pool(dataset(20), share=0.5), Pool(dataset(30), (answered([0, 1] * 15),), 0.5)]
    plan = Plan(replace(SMOKE, batch=8, balance=0.5), pools, (0, 1))
    whole, rest = list(plan.orders(1, 0)), list(plan.orders(1, 2))
    assert len(whole) == 6
    for one, two in zip(whole[2:], rest, strict=True):
        for a, b in zip(one, two, strict=True):
            assert torch.equal(a.index, b.index)
            assert torch.equal(a.views.gain, b.views.gain)
    assert all(
        torch.equal(one[1].numbers, two[1].numbers)  # type: ignore[arg-type]
        for one, two in zip(whole[2:], rest, strict=True)
    )


@pytest.mark.parametrize(
    ("shares", "counts"),
    [((0.3, 0.7), [5, 11]), ((0.1, 0.9), [2, 14]), ((0.5, 0.25, 0.25), [8, 4, 4])],
)
def test_a_batch_is_split_by_the_shares(shares: tuple[float, ...], counts: list[int]) -> None:
    pools = [Pool(dataset(40), share=share) for share in shares]
    assert split(16, pools) == counts
    for orders in Plan(replace(SMOKE, batch=16), pools, (0, 1)).orders(0, 0):
        assert [len(order.index) for order in orders] == counts


def test_a_share_without_a_photo_in_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="a share is too small: it has no photo in a batch of 16"):
        split(16, [Pool(dataset(9), share=0.01), Pool(dataset(9), share=0.99)])


def test_a_small_pool_with_a_large_share_is_gone_through_again_and_again() -> None:
    plan = Plan(
        replace(SMOKE, batch=8), [Pool(dataset(5), share=0.5), Pool(dataset(59), share=0.5)], (0, 1)
    )
    orders = list(plan.orders(0, 0))
    drawn = Counter(int(i) for small, _ in orders for i in small.index)
    assert sum(drawn.values()) == 4 * 8
    assert set(drawn.values()) == {6, 7}
    large = [int(i) for _, large in orders for i in large.index]
    assert len(set(large)) == len(large) == 32


@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_have_the_batch_of_one_between_them(count: int) -> None:
    pools = [
        Pool(dataset(40), share=0.3),
        Pool(dataset(60, classes=False), (answered([0, 1, 2] * 20),), share=0.7),
    ]
    recipe = replace(SMOKE, batch=18)
    whole = list(Plan(recipe, pools, (0, 1)).orders(0, 0))
    parts = [list(Plan(recipe, pools, (rank, count)).orders(0, 0)) for rank in range(count)]
    for step, orders in enumerate(whole):
        own = [part[step] for part in parts]
        assert {sum(len(order.index) for order in o) for o in own} == {18 // count}
        for pool, order in enumerate(orders):
            every = [(o[pool].index, o[pool].views.gain, o[pool].views.boxes) for o in own]
            assert torch.cat([index for index, *_ in every]).sort().values.tolist() == sorted(
                order.index.tolist()
            )
            gains = torch.cat([gain for _, gain, _ in every]).sort().values
            assert torch.equal(gains, order.views.gain.sort().values)
            if order.views.boxes is not None:
                tops = torch.cat([boxes.tops for *_, boxes in every if boxes is not None])
                assert torch.equal(tops.sort().values, order.views.boxes.tops.sort().values)


def test_a_teachers_crop_is_shown_again_and_mirrored_or_not() -> None:
    soft = answered([0, 1] * 4)
    plan = Plan(replace(SMOKE, batch=8, epochs=40), [Pool(dataset(8), (soft,))], (0, 1))
    mirrored = torch.zeros(8)
    for epoch in range(40):
        (order,) = next(plan.orders(epoch, 0))
        assert order.numbers is not None
        assert order.views.boxes is not None
        teachers = soft.origin.boxes(order.index, order.numbers, SIDE)
        for side in ("tops", "lefts", "heights", "widths"):
            assert torch.equal(getattr(order.views.boxes, side), getattr(teachers, side))
        mirrored[order.index] += order.views.boxes.mirrored
    assert mirrored.min() > 8, mirrored
    assert mirrored.max() < 32, mirrored


def test_photos_of_rare_classes_are_drawn_more_often() -> None:
    classes = [0] * 80 + [1] * 20 + [2] * 5
    weights = balanced_weights(torch.tensor(classes), 0.5)
    assert weights[80] / weights[0] == pytest.approx(2.0)
    assert weights[100] / weights[0] == pytest.approx(4.0)
    even = balanced_weights(torch.tensor([0] * 80 + [1] * 40), 1.0)
    assert even[:80].sum().item() == pytest.approx(even[80:].sum().item())
    assert balanced_weights(torch.tensor([0] * 999 + [1]), 1.0).max().item() == MOST_REPEATS


def test_balanced_drawing_repeats_photos_as_often_as_expected_give_or_take_one() -> None:
    classes = [0] * 80 + [1] * 20
    pool = Pool(dataset(100, classes=False), (answered(classes),))
    drawn = pool.epoch(250, 1.0, seeded()).bincount(minlength=100)
    assert drawn.sum() == 250
    expected = 250 * balanced_weights(torch.tensor(classes), 1.0)
    expected /= expected.sum() / 250
    assert ((drawn - expected).abs() < 1).all()
    assert drawn[:80].sum().item() == pytest.approx(125, abs=6)
    assert not torch.equal(pool.epoch(100, 1.0, seeded()), pool.epoch(100, 0.0, seeded()))


@pytest.mark.parametrize(("balance", "rare"), [(0.0, 20), (0.5, 33), (1.0, 50)])
def test_a_recipe_with_balance_draws_photos_of_rare_classes_more_often(
    balance: float, rare: int
) -> None:
    pools = [Pool(dataset(100, classes=False), (answered([0] * 80 + [1] * 20),))]
    plan = Plan(replace(SMOKE, batch=10, balance=balance), pools, (0, 1))
    drawn = [i for (order,) in plan.orders(0, 0) for i in order.index.tolist()]
    assert len(drawn) == 100
    assert sum(i >= 80 for i in drawn) == pytest.approx(rare, abs=5 if balance else 0)


def test_without_balance_photos_are_drawn_in_whole_rounds() -> None:
    pool = Pool(dataset(10))
    drawn = pool.epoch(25, 0.5, seeded())
    assert sorted(drawn[:10].tolist()) == sorted(drawn[10:20].tolist()) == list(range(10))


def test_every_view_of_a_photo_is_drawn() -> None:
    pools = [Pool(dataset(16, classes=False), (answered([0] * 16, views=3),))]
    plan = Plan(replace(SMOKE, batch=16, epochs=60), pools, (0, 1))
    counts = np.zeros((16, 3), int)
    for epoch in range(60):
        ((order,),) = plan.orders(epoch, 0)
        assert order.numbers is not None
        np.add.at(counts, (order.index.numpy(), order.numbers.numpy()), 1)
    assert counts.sum(1).tolist() == [60] * 16
    assert counts.min() > 5


def test_fewer_photos_than_a_batch_are_an_error() -> None:
    with pytest.raises(ValueError, match="12 photos are fewer than one batch of 16"):
        Plan(SMOKE, [Pool(dataset(5), share=0.5), Pool(dataset(7), share=0.5)], (0, 1))


def test_seeds_of_steps_differ_with_room_for_ranks() -> None:
    seeds = [SMOKE.seed_at(step) for step in range(-50, 1000)]
    assert min(b - a for a, b in pairwise(seeds)) > 1000
