import numpy as np
import pytest
from numpy.typing import NDArray

from alexnet.postprocess import Ranked, softmax, top_k


def floats(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def test_softmax_is_the_definition() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (4, 10)).astype(np.float32)
    powers = np.exp(logits.astype(np.float64))
    expected = powers / powers.sum(1, keepdims=True)
    assert softmax(logits).dtype == np.float32
    np.testing.assert_allclose(softmax(logits), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        (floats(1e38, 0, -1e38), floats(1, 0, 0)),
        (floats(1e4, 1e4), floats(0.5, 0.5)),
        (floats(-1e4, -1e4 - 1000), floats(1, 0)),
        # The largest by absolute size is not the largest.
        (floats(-1e30, 5, 5), floats(0, 0.5, 0.5)),
    ],
)
def test_softmax_of_huge_logits_neither_overflows_nor_vanishes(
    logits: NDArray[np.float32], expected: NDArray[np.float32]
) -> None:
    np.testing.assert_array_equal(softmax(logits), expected)


def test_softmax_treats_each_row_by_itself() -> None:
    rows = np.stack([floats(0, 1, 2), floats(500, 0, -500)])
    np.testing.assert_array_equal(softmax(rows), np.stack([softmax(row) for row in rows]))


def test_top_k_ranks_the_most_probable_first() -> None:
    assert top_k(floats(0.125, 0.5, 0.25), 2) == [Ranked(1, 0.5), Ranked(2, 0.25)]


def test_top_k_gives_the_lower_index_first_among_equals() -> None:
    probabilities = np.full(100, 0.01, np.float32)
    assert [r.index for r in top_k(probabilities, 100)] == list(range(100))


def test_top_k_beyond_the_classes_gives_them_all() -> None:
    assert [r.index for r in top_k(floats(0.2, 0.8), 1000)] == [1, 0]


def test_top_k_gives_plain_numbers() -> None:
    (first,) = top_k(floats(0.25, 0.75), 1)
    assert (type(first.index), type(first.probability)) == (int, float)
