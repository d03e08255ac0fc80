"""The loss: what a network should answer, and how far its answer is from that.

A photo has a class (hard), a teacher's answer (soft) or both (mixed), as in Hinton, Vinyals and
Dean, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531. Several teachers count as
their mean, as in the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.loader import Part
from training.recipe import Recipe
from training.softlabels import Answers


@dataclass(frozen=True)
class Goal:
    """What a batch should be answered with."""

    hard: Tensor
    """(N, classes): what is compared with the network's answer as it is."""
    soft: Tensor | None = None
    """(N, classes): what is compared with its answer at the recipe's temperature."""

    @property
    def first(self) -> Tensor:
        """(N,): the most probable class."""
        return (self.hard if self.soft is None else self.hard + self.soft).argmax(1)


class Loss:
    def __init__(self, recipe: Recipe, rows: Tensor):
        """`rows`: (classes, classes), of `class_rows`, on the device of training."""
        self.rows = rows
        self.weight, self.temperature = recipe.teacher_weight, recipe.temperature

    def goal(self, parts: Sequence[Part]) -> Goal:
        """The goal of a batch of these parts, one below the other."""
        if not any(part.answers for part in parts):
            return Goal(self.rows[torch.cat([part.targets for part in parts])])
        goals = [self._part(part) for part in parts]
        hard, soft = (torch.cat(rows) for rows in zip(*goals, strict=True))
        # At temperature 1 both are compared with the same answer, so one comparison does.
        return Goal(hard + soft) if self.temperature == 1 else Goal(hard, soft)

    def _part(self, part: Part) -> tuple[Tensor, Tensor]:
        classed = (part.targets >= 0).float()[:, None]
        hard = self.rows[part.targets.clamp(min=0)] * classed
        if not part.answers:
            return hard, torch.zeros_like(hard)
        rows = [teacher_rows(answers, self.temperature) for answers in part.answers]
        soft = torch.stack(rows).mean(0)
        weight = 1 + (self.weight - 1) * classed  # 1 for a photo without a class
        return hard * (1 - weight), soft * weight

    def __call__(self, outputs: Tensor, goal: Goal) -> Tensor:
        """(N, classes) float32 logits -> their mean loss.

        The soft part is multiplied by the temperature's square, so that its gradients keep their
        size (section 2 of the paper).
        """
        loss = F.cross_entropy(outputs, goal.hard)
        if goal.soft is not None:
            t = self.temperature
            loss = loss + t**2 * F.cross_entropy(outputs / t, goal.soft)
        return loss


def class_rows(classes: int, known: list[int], smoothing: float) -> Tensor:
    """(classes, classes): row i is the goal for class i, smoothed over the `known` classes only.

    Other classes have a goal of zero, so that the network learns not to answer with them.
    """
    table = torch.eye(classes) * (1 - smoothing)
    if known:
        table[:, known] += smoothing / len(known)
    return table


def teacher_rows(answers: Answers, temperature: float) -> Tensor:
    """(N, classes): a teacher's answers at a temperature T, p ** (1 / T) over the sum of these.

    The rest of an answer is spread evenly over the classes that the teacher has and that are not
    among its best k.
    """
    others = int(answers.known.sum()) - answers.classes.shape[1]
    rows = answers.known.float() * (answers.rest / max(1, others))[:, None]
    rows.scatter_(1, answers.classes, answers.shares)
    if temperature != 1:
        rows = rows ** (1 / temperature)
    return rows / rows.sum(1, keepdim=True)
