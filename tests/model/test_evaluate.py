from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from alexnet.labels import Label, Labels
from alexnet.ten_views import cut_ten_views
from training.data import Dataset
from training.evaluate import (
    ClassScore,
    Score,
    average,
    evaluate,
    infer_all,
    score,
    score_classes,
    worst_classes,
)

LABELS = Labels(tuple(Label(f"c{i}", f"class {i}") for i in range(10)))


def rows(*values: Any) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def targets(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def test_known_answers() -> None:
    falling = np.arange(10, 0, -1)
    outputs = rows(falling, falling, falling, falling)
    # Ranks 1, 2, 5 and 6.
    assert score(outputs, targets(0, 1, 4, 5)) == Score(top1=0.25, top5=0.75, photos=4)


@pytest.mark.parametrize(
    ("equals", "expected"), [(1, (1, 1)), (2, (0, 1)), (5, (0, 1)), (6, (0, 0)), (10, (0, 0))]
)
def test_ties_count_against_the_network(equals: int, expected: tuple[int, int]) -> None:
    outputs = rows(np.arange(10) < equals)
    assert score(outputs, targets(0))[:2] == expected


def test_equal_outputs_for_all_classes_score_zero() -> None:
    assert score(np.zeros((3, 10), np.float32), targets(0, 4, 9))[:2] == (0, 0)


def test_nan_outputs_score_zero() -> None:
    assert score(np.full((3, 10), np.nan, np.float32), targets(0, 4, 9))[:2] == (0, 0)
    one = np.zeros((1, 10), np.float32)
    one[0, 4] = np.nan
    assert score(one, targets(4))[:2] == (0, 0)


def test_with_fewer_than_six_classes_top_5_is_always_right() -> None:
    assert score(rows([3, 2, 1]), targets(2)) == Score(0, 1, 1)


@pytest.mark.parametrize("batch", [1, 4, 7, 64])
def test_photos_are_predicted_in_order_a_batch_at_a_time(batch: int) -> None:
    images = np.arange(7, dtype=np.uint8).reshape(7, 1, 1, 1).repeat(3, 3)
    sizes: list[int] = []

    def predict(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        sizes.append(len(crops))
        return np.eye(10, dtype=np.float32)[crops[:, 0, 0, 0]]

    np.testing.assert_array_equal(infer_all(predict, images, batch).argmax(1), range(7))
    assert sizes == [batch] * (7 // batch) + [7 % batch] * (7 % batch > 0)


def test_a_predictor_is_scored_on_a_dataset() -> None:
    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1).repeat(3, 3)
    data = Dataset(images, targets(0, 1, 2, 9), LABELS)
    result = evaluate(lambda crops: np.eye(10, dtype=np.float32)[crops[:, 0, 0, 0]], data, 3)
    assert result == Score(0.75, 0.75, 4)
    assert result.in_words(10) == "top-1 75.0%, top-5 75.0% of 4 photos"
    assert result.in_words(5) == "top-1 75.0% of 4 photos"


def test_scores_match_a_loop_over_the_photos() -> None:
    rng = np.random.default_rng(0)
    outputs = rng.integers(0, 6, (200, 10)).astype(np.float32)  # many ties
    own = rng.integers(0, 10, 200)
    places = []
    for row, target in zip(outputs.tolist(), own.tolist(), strict=True):
        places.append(sum(value >= row[target] for i, value in enumerate(row) if i != target))
    top1 = sum(place == 0 for place in places) / 200
    top5 = sum(place <= 4 for place in places) / 200
    assert 0 < top1 < top5 < 1
    assert score(outputs, own) == pytest.approx((top1, top5, 200))
    for one in score_classes(outputs, own):
        mine = [place for place, target in zip(places, own, strict=True) if target == one.target]
        assert one.score.photos == len(mine)
        assert one.score.top1 == pytest.approx(np.mean([place == 0 for place in mine]))
        assert one.score.top5 == pytest.approx(np.mean([place <= 4 for place in mine]))
        assert sum(times for _, times in one.taken_for) == sum(place > 0 for place in mine)


def test_the_standard_error_is_binomial() -> None:
    assert Score(0.5, 1, 10_000).standard_error == pytest.approx(0.005)
    assert Score(0.9, 1, 100).standard_error == pytest.approx(0.03)
    assert Score(1.0, 1, 7).standard_error == 0


ANSWERS = np.eye(4, dtype=np.float32)[[0, 0, 2, 2, 1, 3, 3, 3, 1]]
OWN = targets(0, 0, 0, 0, 0, 1, 1, 1, 1)


def test_class_scores_list_the_wrong_answers() -> None:
    first, second = score_classes(ANSWERS, OWN)
    assert first == ClassScore(0, Score(0.4, 1, 5), [(2, 2), (1, 1)])
    assert second == ClassScore(1, Score(0.25, 1, 4), [(3, 3)])


def test_classes_without_photos_have_no_score() -> None:
    assert [s.target for s in score_classes(ANSWERS, np.full(9, 3))] == [3]


def test_a_tie_counts_as_the_other_class() -> None:
    (one,) = score_classes(rows([1, 0, 1, 0]), targets(0))
    assert one == ClassScore(0, Score(0, 1, 1), [(2, 1)])


def test_the_worst_classes_come_first_and_top_5_decides_among_equals() -> None:
    scores = [
        ClassScore(target, Score(top1, top5, 10), [])
        for target, top1, top5 in [(0, 0.5, 0.6), (1, 0.2, 0.9), (2, 0.2, 0.3), (3, 0.9, 1)]
    ]
    assert [s.target for s in worst_classes(scores, 3)] == [2, 1, 0]
    assert [s.target for s in worst_classes(scores, 99)] == [2, 1, 0, 3]
    assert worst_classes(scores, 0) == []


def test_an_ensemble_is_the_mean_of_its_members() -> None:
    members = [rows([0.7, 0.3], [0.1, 0.9]), rows([0.2, 0.8], [0.2, 0.8]), rows([0.9, 0.1], [0, 1])]
    mean = average(members)
    np.testing.assert_allclose(mean, [[0.6, 0.4], [0.1, 0.9]], rtol=1e-6)
    assert members[0][0, 0] == np.float32(0.7), "a member was written to"
    np.testing.assert_array_equal(average(members[:1]), members[0])


@pytest.mark.parametrize("crop", [224, 227])
def test_ten_views_are_corners_and_centre_and_their_mirror_images(crop: int) -> None:
    squares = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), np.uint8)
    views = cut_ten_views(squares, crop)
    assert views.shape == (2, 10, crop, crop, 3)
    middle = (256 - crop) // 2
    expected = [
        squares[:, :crop, :crop],
        squares[:, :crop, -crop:],
        squares[:, -crop:, :crop],
        squares[:, -crop:, -crop:],
        squares[:, middle : middle + crop, middle : middle + crop],
    ]
    for i, view in enumerate(expected):
        np.testing.assert_array_equal(views[:, i], view)
        np.testing.assert_array_equal(views[:, 5 + i], np.flip(view, 2))


def test_ten_views_of_a_square_as_small_as_the_crop_are_two() -> None:
    squares = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    views = cut_ten_views(squares, 4)
    for i in range(5):
        np.testing.assert_array_equal(views[:, i], squares)
        np.testing.assert_array_equal(views[:, 5 + i], squares[:, :, ::-1])
