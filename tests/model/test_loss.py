"""The loss against the formulas, in numpy and by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.augment import draw
from training.loader import Part
from training.loss import Goal, Loss, class_rows, teacher_rows
from training.recipe import SMOKE, Recipe
from training.softlabels import Answers

CLASSES = 5
LOGITS = np.array([[2.0, 0.5, -1.0, 0.0, 1.0], [0.0, 0.0, 3.0, -2.0, 0.5]])
# The best two of five classes each, and the sum of the other three.
ANSWERS = Answers(
    torch.tensor([[4, 0], [2, 1]]),
    torch.tensor([[0.7, 0.24], [0.9, 0.04]]),
    torch.tensor([0.06, 0.06]),
    torch.ones(CLASSES, dtype=torch.bool),
)
FULL = np.array([[0.24, 0.02, 0.02, 0.02, 0.7], [0.02, 0.04, 0.9, 0.02, 0.02]])


def part(targets: list[int], *answers: Answers) -> Part:
    generator = torch.Generator().manual_seed(0)
    views = draw(SMOKE, len(targets), 8, 8, 0.0, generator)
    return Part(torch.zeros(0), torch.tensor(targets), views, list(answers))


def computed(recipe: Recipe, *parts: Part, logits: NDArray[np.float64] = LOGITS) -> float:
    loss = Loss(recipe, class_rows(CLASSES, [0, 1, 2], recipe.label_smoothing))
    return loss(torch.tensor(logits, dtype=torch.float32), loss.goal(parts)).item()


def softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(x)
    probabilities: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return probabilities


def cross_entropy(logits: NDArray[np.float64], goal: NDArray[np.float64]) -> float:
    return float(-(goal * np.log(softmax(logits))).sum(1).mean())


PLAIN = replace(SMOKE, label_smoothing=0.0, temperature=1.0)


def test_a_class_is_compared_by_cross_entropy_smoothed_over_the_known_classes() -> None:
    goal = np.array(
        [[0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3, 0, 0], [0.1 / 3, 0.1 / 3, 0.9 + 0.1 / 3, 0, 0]]
    )
    recipe = replace(PLAIN, label_smoothing=0.1)
    assert computed(recipe, part([0, 2])) == pytest.approx(cross_entropy(LOGITS, goal))


def test_the_rest_of_an_answer_is_spread_over_the_other_classes() -> None:
    np.testing.assert_allclose(teacher_rows(ANSWERS, 1.0), FULL, rtol=1e-6)
    assert computed(PLAIN, part([-1, -1], ANSWERS)) == pytest.approx(cross_entropy(LOGITS, FULL))


def test_classes_that_the_teacher_does_not_have_get_nothing() -> None:
    known = torch.tensor([True, True, True, False, True])
    rows = teacher_rows(ANSWERS._replace(known=known), 1.0)
    assert rows[0].tolist() == pytest.approx([0.24, 0.03, 0.03, 0.0, 0.7])


def test_an_answer_of_all_classes_has_no_rest() -> None:
    answers = Answers(
        torch.tensor([[1, 0]]), torch.tensor([[0.75, 0.25]]), torch.zeros(1), torch.ones(2).bool()
    )
    assert teacher_rows(answers, 1.0).tolist() == [[0.25, 0.75]]


@pytest.mark.parametrize("temperature", [2.0, 4.0])
def test_a_temperature_softens_both_sides_and_its_square_keeps_the_gradients(
    temperature: float,
) -> None:
    goal = FULL ** (1 / temperature)
    goal /= goal.sum(1, keepdims=True)
    expected = temperature**2 * cross_entropy(LOGITS / temperature, goal)
    recipe = replace(PLAIN, temperature=temperature)
    assert computed(recipe, part([-1, -1], ANSWERS)) == pytest.approx(expected, rel=1e-5)


def test_softened_shares_are_those_of_the_teachers_logits_at_that_temperature() -> None:
    """Without a rest: softmax(z / T) from softmax(z)."""
    logits = np.array([[3.0, 1.0, 0.2]])
    answers = Answers(
        torch.tensor([[0, 1, 2]]), torch.tensor(softmax(logits), dtype=torch.float32),
        torch.zeros(1), torch.ones(3).bool(),
    )  # fmt: skip
    np.testing.assert_allclose(teacher_rows(answers, 3.0), softmax(logits / 3), rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_photo_with_class_and_answer_is_compared_with_both(temperature: float) -> None:
    recipe = replace(PLAIN, temperature=temperature, teacher_weight=0.7)
    soft = FULL ** (1 / temperature)
    soft /= soft.sum(1, keepdims=True)
    hard = np.eye(CLASSES)[[4, 2]]
    expected = 0.3 * cross_entropy(LOGITS, hard)
    expected += 0.7 * temperature**2 * cross_entropy(LOGITS / temperature, soft)
    assert computed(recipe, part([4, 2], ANSWERS)) == pytest.approx(expected, rel=1e-5)


def test_parts_with_classes_and_parts_with_answers_make_one_batch() -> None:
    recipe = replace(PLAIN, temperature=2.0)
    logits = np.concatenate([LOGITS[::-1], LOGITS])
    soft = FULL**0.5
    soft /= soft.sum(1, keepdims=True)
    expected = cross_entropy(LOGITS[::-1], np.eye(CLASSES)[[0, 1]]) / 2
    expected += 4 * cross_entropy(LOGITS / 2, soft) / 2
    parts = part([0, 1]), part([-1, -1], ANSWERS)
    assert computed(recipe, *parts, logits=logits) == pytest.approx(expected, rel=1e-5)


def test_several_teachers_count_as_their_mean_at_the_temperature() -> None:
    second = ANSWERS._replace(classes=torch.tensor([[1, 0], [2, 4]]))
    other = np.array([[0.24, 0.7, 0.02, 0.02, 0.02], [0.02, 0.02, 0.9, 0.02, 0.04]])
    goal = sum(full**0.5 / (full**0.5).sum(1, keepdims=True) for full in (FULL, other)) / 2
    recipe = replace(PLAIN, temperature=2.0)
    expected = 4 * cross_entropy(LOGITS / 2, np.asarray(goal))
    assert computed(recipe, part([-1, -1], ANSWERS, second)) == pytest.approx(expected, rel=1e-5)


def test_the_first_class_of_a_goal_is_its_most_probable() -> None:
    loss = Loss(replace(PLAIN, temperature=2.0), class_rows(CLASSES, [0, 1], 0.0))
    goal = loss.goal([part([1, 0]), part([-1, -1], ANSWERS)])
    assert goal.first.tolist() == [1, 0, 4, 2]
    assert Goal(torch.tensor([[0.1, 0.9]])).first.tolist() == [1]


def test_classes_without_photos_have_a_goal_of_zero() -> None:
    rows: Tensor = class_rows(5, [0, 1, 2, 3], 0.1)
    assert rows[:4].sum(1).tolist() == pytest.approx([1.0] * 4)
    assert rows[:4, 4].tolist() == [0.0] * 4
    assert rows[0].tolist() == pytest.approx([0.925, 0.025, 0.025, 0.025, 0.0])
