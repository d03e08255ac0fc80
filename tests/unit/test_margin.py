"""How far off estimates were, and how much of that is believed."""

import pytest

from server.scheduler.estimate import LARGEST_MARGIN, Margin

LONG = 1000.0
"""A timeout that caps nothing."""


def margin(*errors_s: float) -> Margin:
    made = Margin()
    for error_s in errors_s:
        made.saw(error_s)
    return made


def test_nothing_seen_is_no_margin() -> None:
    assert margin().of(LONG) == 0


def test_answers_that_are_always_as_late_have_that_as_the_margin() -> None:
    assert margin(*[0.1] * 3000).of(LONG) == pytest.approx(0.1, rel=0.01)


def test_errors_that_scatter_around_nothing_are_a_margin_too() -> None:
    assert margin(*[0.1, -0.1] * 1500).of(LONG) == pytest.approx(0.3, rel=0.1)


def test_a_slow_moment_is_believed_sooner_than_its_end() -> None:
    up = margin(*[1.0] * 10)
    high = up.of(LONG)
    assert high > 0.8
    for _ in range(10):
        up.saw(0.0)
    assert 0.9 * high < up.of(LONG) < high
    for _ in range(3000):
        up.saw(0.0)
    assert up.of(LONG) < 0.01 * high


def test_a_probe_that_is_in_time_halves_it() -> None:
    late = margin(*[1.0] * 10)
    high = late.of(LONG)
    late.halve()
    assert late.of(LONG) == pytest.approx(high / 2)


def test_it_takes_no_more_than_a_part_of_the_timeout() -> None:
    late = margin(*[1.0] * 3000)
    assert late.of(0.1) == pytest.approx(LARGEST_MARGIN * 0.1)
    assert late.of(2.0) == pytest.approx(LARGEST_MARGIN * 2.0)
    assert late.of(10.0) == pytest.approx(1.0, rel=0.01)


def test_answers_that_are_always_early_have_no_margin_below_nothing() -> None:
    assert margin(*[-1.0] * 3000).of(LONG) == 0
