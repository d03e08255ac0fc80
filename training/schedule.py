"""Learning rates as pure functions of the step."""

from typing import NamedTuple

from training.recipe import Recipe


class Rates(NamedTuple):
    """The learning rate of each group of parameters; 0 freezes it."""

    weights: float
    biases: float
    """Of batch norm's scales as well."""
    conv1_weights: float
    conv1_biases: float


def rates(recipe: Recipe, step: int, steps: int) -> Rates:
    """The rates of `step`, counted from 0, of `steps`."""
    if recipe.schedule == "linear":
        return _uniform(_linear(recipe, (step + 1) / steps, steps))
    done = step / steps
    if recipe.schedule == "dexp":
        return _dexp(done)
    return _net_145(done) if recipe.schedule == "2012" else _uniform(_step_rate(done))


def _uniform(rate: float) -> Rates:
    return Rates(rate, rate, rate, rate)


def _linear(recipe: Recipe, done: float, steps: int) -> float:
    """Rises from 0 to the peak during the warm-up, then falls to 0 at the last step."""
    warmup = max(recipe.warmup, min(0.5, recipe.warmup_steps / steps))
    if done < warmup:
        return recipe.highest_rate * done / warmup
    return recipe.highest_rate * max(0.0, 1 - done) / (1 - warmup)


# The log of net 145 counts its 90 epochs from 1: the drop at epoch 25 comes after 24/90 of the run.
# Runs of other lengths drop at the same fractions.
def _epoch_start(epoch: int) -> float:
    return (epoch - 1) / 90


def _step_rate(done: float) -> float:
    """0.01, divided by ten at epochs 25, 51 and 79."""
    return 0.01 * 0.1 ** sum(done >= _epoch_start(epoch) for epoch in (25, 51, 79))


def _net_145(done: float) -> Rates:
    """Net 145: the biases' rate is doubled and never drops; conv1's drops earlier, then to 0."""
    rate = _step_rate(done)
    if done >= _epoch_start(72):
        return Rates(rate, 0.02, 0.0, 0.0)
    return Rates(rate, 0.02, 1e-5 if done >= _epoch_start(67) else rate, 0.02)


def _dexp(done: float) -> Rates:
    """Four equal stages down to a 250th; the biases' rate drops to a tenth halfway. Net 170 froze
    conv1 from its epoch 74 of 95 on."""
    rate = 0.01 * 250 ** (-min(3, int(4 * done)) / 3)
    bias = 0.02 if done < 0.5 else 0.002
    return Rates(rate, bias, 0.0, 0.0) if done >= 73 / 95 else Rates(rate, bias, rate, bias)
