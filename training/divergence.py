"""A training that has left all bounds: seen, and told with what to do."""

import math

from training.recipe import Recipe

BOUND = 1000.0  # guessing costs 7 with 1000 classes


def check_loss(loss: float, total: float, epoch: int, recipe: Recipe) -> None:
    """Of one step and of all in the epoch so far, which a single bad step makes infinite. Raises
    FloatingPointError; `epoch` counts from 0."""
    if not (math.isfinite(total) and loss < BOUND):
        raise FloatingPointError(
            f"the loss is {loss:.4g} in epoch {epoch + 1}: {lower_rate(recipe)}"
        )


def is_worse_than_guessing(loss: float, classes: int) -> bool:
    """Far worse: the mean of an epoch, which begins at that of guessing, ln(classes)."""
    return loss > 1 + 2 * math.log(classes)


def lower_rate(recipe: Recipe) -> str:
    if recipe.schedule != "linear":
        return f"the rates of recipe {recipe.name} are fixed and do not suit these photos"
    return f"pass a lower --lr (the highest rate is {recipe.highest_rate:.2g})"
