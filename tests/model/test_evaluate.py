from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from alexnet.labels import Label, Labels
from training.data import Dataset
from training.evaluate import Accuracy, accuracy, logits, score

LABELS = Labels(tuple(Label(f"c{i}", f"class {i}") for i in range(10)))


def rows(*values: Any) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def targets(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def test_known_answers() -> None:
    falling = np.arange(10, 0, -1)
    outputs = rows(falling, falling, falling, falling)
    # First, second, fifth and sixth place.
    assert score(outputs, targets(0, 1, 4, 5)) == Accuracy(top1=0.25, top5=0.75, photos=4)


@pytest.mark.parametrize(
    ("equals", "expected"), [(1, (1, 1)), (2, (0, 1)), (5, (0, 1)), (6, (0, 0)), (10, (0, 0))]
)
def test_ties_count_against_the_network(equals: int, expected: tuple[int, int]) -> None:
    outputs = rows(np.arange(10) < equals)
    assert score(outputs, targets(0))[:2] == expected


def test_a_network_that_answers_the_same_for_all_classes_knows_nothing() -> None:
    assert score(np.zeros((3, 10), np.float32), targets(0, 4, 9))[:2] == (0, 0)


def test_a_network_that_answers_nan_knows_nothing() -> None:
    assert score(np.full((3, 10), np.nan, np.float32), targets(0, 4, 9))[:2] == (0, 0)
    one = np.zeros((1, 10), np.float32)
    one[0, 4] = np.nan
    assert score(one, targets(4))[:2] == (0, 0)


def test_with_fewer_than_six_classes_every_class_is_among_five() -> None:
    assert score(rows([3, 2, 1]), targets(2)) == Accuracy(0, 1, 1)


@pytest.mark.parametrize("batch", [1, 4, 7, 64])
def test_photos_go_through_in_order_a_batch_at_a_time(batch: int) -> None:
    images = np.arange(7, dtype=np.uint8).reshape(7, 1, 1, 1).repeat(3, 3)
    sizes: list[int] = []

    def predict(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        sizes.append(len(crops))
        return np.eye(10, dtype=np.float32)[crops[:, 0, 0, 0]]

    np.testing.assert_array_equal(logits(predict, images, batch).argmax(1), range(7))
    assert sizes == [batch] * (7 // batch) + [7 % batch] * (7 % batch > 0)


def test_accuracy_scores_a_predictor_on_a_dataset() -> None:
    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1).repeat(3, 3)
    data = Dataset(images, targets(0, 1, 2, 9), LABELS)
    result = accuracy(lambda crops: np.eye(10, dtype=np.float32)[crops[:, 0, 0, 0]], data, 3)
    assert result == Accuracy(0.75, 0.75, 4)
    assert str(result) == "top-1 75.0%, top-5 75.0% of 4 photos"
