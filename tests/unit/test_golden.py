import numpy as np
import pytest
from numpy.typing import NDArray

from alexnet.golden import Golden, GoldenMismatch


@pytest.fixture
def golden() -> Golden:
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (3, 8, 8, 3), np.uint8)
    return Golden(crops, rng.normal(0, 2, (3, 5)).astype(np.float32))


def test_bytes_round_trip(golden: Golden) -> None:
    again = Golden.from_bytes(golden.to_bytes(), 8, 5)
    np.testing.assert_array_equal(again.crops, golden.crops)
    np.testing.assert_array_equal(again.logits, golden.logits)
    assert again.crops.dtype == np.uint8
    assert again.logits.dtype == np.float32


def test_the_same_logits_have_a_difference_of_zero(golden: Golden) -> None:
    assert golden.check(golden.logits.copy(), tolerance=0.0) == 0.0


def test_a_constant_added_to_every_logit_changes_no_probability(golden: Golden) -> None:
    assert golden.difference(golden.logits + np.float32(10)) < 1e-6


def test_the_difference_is_that_of_the_probability_that_is_furthest_off() -> None:
    golden = Golden(np.zeros((2, 1, 1, 3), np.uint8), np.zeros((2, 2), np.float32))
    logits = np.array([[0, 0], [np.log(3), 0]], np.float32)  # 3/4 instead of 1/2
    assert golden.difference(logits) == pytest.approx(0.25)


def test_check_accepts_up_to_the_tolerance_and_no_more(golden: Golden) -> None:
    logits = golden.logits.copy()
    logits[1, 2] += 1
    difference = golden.difference(logits)
    assert golden.check(logits, tolerance=difference) == difference
    with pytest.raises(GoldenMismatch, match=f"up to {difference:.4f}"):
        golden.check(logits, tolerance=difference * 0.99)


def test_classes_in_another_order_are_a_mismatch(golden: Golden) -> None:
    with pytest.raises(GoldenMismatch, match="differ from the trained network's"):
        golden.check(golden.logits[:, ::-1], tolerance=0.05)


@pytest.mark.parametrize("shape", [(3, 4), (2, 5), (5, 3), (15,)])
def test_logits_of_another_shape_are_a_mismatch(golden: Golden, shape: tuple[int, ...]) -> None:
    with pytest.raises(GoldenMismatch, match="shape"):
        golden.check(np.zeros(shape, np.float32), tolerance=1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_a_mismatch(golden: Golden, bad: float) -> None:
    logits: NDArray[np.float32] = golden.logits.copy()
    logits[0, 0] = bad
    with pytest.raises(GoldenMismatch, match="not finite"):
        golden.check(logits, tolerance=1.0)


def test_no_engine_passes_a_golden_batch_with_nan(golden: Golden) -> None:
    broken = Golden(golden.crops, np.full_like(golden.logits, np.nan))
    with pytest.raises(GoldenMismatch):
        broken.check(golden.logits, tolerance=0.05)
