from dataclasses import replace

import pytest

from training.recipe import DEXP, FINETUNE, MODERN, ORIGINAL, PAPER, PLAIN, Recipe
from training.schedule import Rates, rates

RECIPE = Recipe("test", epochs=1, peak_lr=0.5, warmup=0.1)

# Net 145's own log: weights, biases, conv1's weights, conv1's biases. The biases never drop.
NET_145 = {
    (1, 24): (0.01, 0.02, 0.01, 0.02),
    (25, 50): (0.001, 0.02, 0.001, 0.02),
    (51, 66): (0.0001, 0.02, 0.0001, 0.02),
    (67, 71): (0.0001, 0.02, 0.00001, 0.02),
    (72, 78): (0.0001, 0.02, 0, 0),
    (79, 90): (0.00001, 0.02, 0, 0),
}


def weights(recipe: Recipe, steps: int) -> list[float]:
    return [rates(recipe, step, steps).weights for step in range(steps)]


@pytest.mark.parametrize("per_epoch", [1, 7, 10_009])
@pytest.mark.parametrize("epochs", NET_145)
def test_recipe_2012_has_the_rates_of_net_145(epochs: tuple[int, int], per_epoch: int) -> None:
    first, last = epochs
    for step in ((first - 1) * per_epoch, last * per_epoch - 1):
        assert rates(ORIGINAL, step, 90 * per_epoch) == pytest.approx(NET_145[epochs], rel=1e-9)


def test_a_shorter_run_drops_at_the_same_fractions() -> None:
    short = replace(ORIGINAL, epochs=45)
    assert [rates(short, step, 450) for step in range(450)] == [
        rates(ORIGINAL, 2 * step, 900) for step in range(450)
    ]


def test_the_papers_rate_is_one_for_all_and_drops_three_times() -> None:
    every = [rates(PAPER, step, 900) for step in range(900)]
    assert all(rate == Rates(*[rate.weights] * 4) for rate in every)
    expected = [0.01] * 240 + [0.001] * 260 + [0.0001] * 280 + [0.00001] * 120
    assert [rate.weights for rate in every] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("quarter", "weight", "bias"),
    [(0, 0.01, 0.02), (1, 1.587e-3, 0.02), (2, 2.52e-4, 0.002), (3, 4e-5, 0.002)],
)
def test_dexp_has_four_stages_and_its_biases_two(quarter: int, weight: float, bias: float) -> None:
    steps = 95 * 12
    for step in (quarter * steps // 4, (quarter + 1) * steps // 4 - 1):
        frozen = step >= 73 * 12
        expected = (weight, bias, 0, 0) if frozen else (weight, bias, weight, bias)
        assert rates(DEXP, step, steps) == pytest.approx(expected, rel=1e-3)


def test_net_170_froze_conv1_from_its_epoch_74_on() -> None:
    assert rates(DEXP, 73 * 12 - 1, 95 * 12).conv1_weights > 0
    last = rates(DEXP, 73 * 12, 95 * 12)
    assert (last.conv1_weights, last.conv1_biases) == (0, 0)
    assert last.weights == pytest.approx(4e-5, rel=1e-3)


def test_a_linear_rate_rises_linearly_to_the_peak_and_falls_linearly_to_zero() -> None:
    curve = weights(RECIPE, 100)
    assert curve[:10] == pytest.approx([0.05 * (i + 1) for i in range(10)])
    assert max(curve) == curve[9] == 0.5
    assert curve[9:] == pytest.approx([0.5 * (90 - i) / 90 for i in range(91)])
    assert curve[-1] == 0.0


def test_the_warm_up_takes_steps_enough_also_in_a_short_run() -> None:
    recipe = replace(RECIPE, warmup_steps=30)
    assert weights(recipe, 1000) == weights(RECIPE, 1000), "a tenth is more"
    curve = weights(recipe, 100)
    assert curve.index(max(curve)) == 29
    assert curve[:30] == pytest.approx([0.5 * (i + 1) / 30 for i in range(30)])
    short = weights(recipe, 20)
    assert short.index(max(short)) == 9, "half of the run at most"
    assert short[-1] == 0.0


@pytest.mark.parametrize(
    ("recipe", "steps", "warm"),
    [(PLAIN, 2000, 200), (PLAIN, 400, 100), (PLAIN, 60, 30),
     (FINETUNE, 1000, 100), (FINETUNE, 200, 30), (FINETUNE, 40, 20)],
)  # fmt: skip
def test_the_warm_up_is_a_tenth_and_a_hundred_steps_at_least_or_thirty_in_fine_tuning(
    recipe: Recipe, steps: int, warm: int
) -> None:
    """And at most half of the run."""
    curve = weights(recipe, steps)
    assert curve[:warm] == pytest.approx(
        [recipe.highest_rate * (i + 1) / warm for i in range(warm)]
    )
    assert max(curve) == pytest.approx(curve[warm - 1])
    assert curve[warm] < curve[warm - 1]


def test_without_warm_up_a_linear_rate_only_falls() -> None:
    curve = weights(Recipe("test", epochs=1, peak_lr=1.0, warmup=0.0), 4)
    assert curve == pytest.approx([0.75, 0.5, 0.25, 0])


def test_a_linear_rate_is_the_same_for_all_and_proportional_to_the_batch() -> None:
    every = [rates(RECIPE, step, 50) for step in range(50)]
    assert all(rate == Rates(*[rate.weights] * 4) for rate in every)
    doubled = [2 * rate.weights for rate in every]
    assert weights(replace(RECIPE, batch=512), 50) == pytest.approx(doubled)
    assert max(weights(MODERN, 6000)) == pytest.approx(0.4, rel=1e-3)
