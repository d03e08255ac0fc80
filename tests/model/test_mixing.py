from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet.spec import Preprocess
from training.data import load
from training.loop import Training
from training.loss import Goal
from training.mixing import Mix, draw_mix
from training.recipe import SMOKE, Recipe

BOTH = replace(SMOKE, mixup=0.4, cutmix=1.0)


def drawn(count: int = 200, mixup: float = 0.0, cutmix: float = 0.0) -> list[Mix]:
    recipe = replace(SMOKE, mixup=mixup, cutmix=cutmix)
    mixes = [draw_mix(recipe, step, 8, 20) for step in range(count)]
    return [mix for mix in mixes if mix is not None]


def test_a_recipe_without_mixing_draws_nothing() -> None:
    assert draw_mix(SMOKE, 3, 8, 20) is None


def test_a_step_mixes_the_same_way_each_time_and_other_steps_otherwise() -> None:
    one, again, other = (draw_mix(BOTH, step, 8, 20) for step in (5, 5, 6))
    assert one is not None
    assert again is not None
    assert other is not None
    assert (one.share, one.box) == (again.share, again.box)
    assert torch.equal(one.partners, again.partners)
    assert one.share != other.share


def test_mixup_adds_photos_and_goals_in_the_same_shares() -> None:
    x = torch.arange(24.0).reshape(2, 3, 2, 2)
    mix = Mix(0.75, torch.tensor([1, 0]))
    expected = 0.75 * x + 0.25 * x.flip(0)
    assert torch.equal(mix.photos(x.clone()), expected)
    goal = mix.goal(Goal(torch.eye(2), 2 * torch.eye(2)))
    assert goal.hard.tolist() == [[0.75, 0.25], [0.25, 0.75]]
    assert goal.soft is not None
    assert goal.soft.tolist() == [[1.5, 0.5], [0.5, 1.5]]


def test_cutmix_takes_a_rectangle_and_its_share_of_the_goal() -> None:
    x = torch.stack([torch.full((3, 4, 4), value) for value in (0.0, 1.0, 2.0)])
    mix = Mix(1 - 6 / 16, torch.tensor([1, 2, 0]), (1, 3, 0, 3))
    mixed = mix.photos(x.clone())
    for photo, (own, partner) in zip(mixed, ((0, 1), (1, 2), (2, 0)), strict=True):
        expected = np.full((4, 4), float(own))
        expected[1:3, 0:3] = partner
        assert all(channel.tolist() == expected.tolist() for channel in photo)
    assert mix.goal(Goal(torch.eye(3))).hard[0].tolist() == [0.625, 0.375, 0.0]


def test_the_share_of_cutmix_is_that_of_the_pixels_that_are_left() -> None:
    for mix in drawn(cutmix=1.0):
        assert mix.box is not None
        top, bottom, left, right = mix.box
        assert 0 <= top <= bottom <= 20
        assert 0 <= left <= right <= 20
        assert mix.share == pytest.approx(1 - (bottom - top) * (right - left) / 400)


def test_the_shares_of_mixup_follow_its_beta_distribution() -> None:
    shares = [mix.share for mix in drawn(2000, mixup=0.2)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    assert np.var(shares) == pytest.approx(0.25 / (2 * 0.2 + 1), abs=0.01)
    assert all(mix.box is None for mix in drawn(mixup=0.2))


def test_with_both_methods_each_has_half_of_the_steps() -> None:
    cut = [mix.box is not None for mix in drawn(1000, mixup=0.4, cutmix=1.0)]
    assert np.mean(cut) == pytest.approx(0.5, abs=0.06)
    assert {len(set(mix.partners.tolist())) for mix in drawn(20, mixup=0.4)} == {8}


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(
    "recipe", [replace(SMOKE, mixup=1.0), replace(SMOKE, cutmix=1.0)], ids=["mixup", "cutmix"]
)
def test_a_run_shows_the_network_mixed_photos_and_mixed_goals(
    photos: Path, run: Path, recipe: Recipe
) -> None:
    data = load([photos / "train"], Preprocess(SMOKE.store, SMOKE.store))
    recipe = replace(recipe, label_smoothing=0.0)
    plain = Training(replace(recipe, mixup=0.0, cutmix=0.0), data, run)
    mixed = Training(recipe, data, run)
    parts = next(iter(plain.loader.batches(plain._orders(0))))
    (x, goal), (y, both) = plain._lesson(parts, 64), mixed._lesson(parts, 64)
    assert (goal.hard.amax(1) == 1).all()
    mix = draw_mix(recipe, 0, 16, 64)
    assert mix is not None
    assert torch.equal(y, mix.photos(x.clone()))
    assert torch.equal(both.hard, mix.goal(goal).hard)
    assert not torch.equal(y, x)
    assert (both.hard.amax(1) < 1).any()
