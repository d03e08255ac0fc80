import math

import pytest

from training.divergence import check_loss, is_worse_than_guessing, lower_rate
from training.recipe import ORIGINAL, PLAIN


@pytest.mark.parametrize(
    ("loss", "total"), [(math.nan, math.nan), (2.0, math.inf), (1e4, 2e4), (math.inf, math.inf)]
)
def test_a_loss_out_of_bounds_names_the_option_and_the_rate(loss: float, total: float) -> None:
    with pytest.raises(FloatingPointError, match=r"in epoch 3: pass a lower --lr \(the .* 0\.15\)"):
        check_loss(loss, total, 2, PLAIN)


def test_a_loss_within_bounds_is_fine() -> None:
    check_loss(44.8, 4000.0, 0, PLAIN)


def test_a_mean_far_above_that_of_guessing_is_told() -> None:
    assert [is_worse_than_guessing(loss, 5) for loss in (1.6, 4.0, 6.2)] == [False, False, True]
    assert not is_worse_than_guessing(6.9, 1000)


def test_the_rates_of_2012_cannot_be_lowered() -> None:
    assert "--lr" not in lower_rate(ORIGINAL)
