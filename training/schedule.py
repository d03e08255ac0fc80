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
    """The rates of step `step`, counted from 0, of `steps`."""
    if recipe.schedule == "linear":
        return _same(_linear(recipe, (step + 1) / steps))
    done = step / steps
    if recipe.schedule == "dexp":
        return _dexp(done)
    return _original(done) if recipe.schedule == "2012" else _same(_drops(done))


def _same(rate: float) -> Rates:
    return Rates(rate, rate, rate, rate)


def _linear(recipe: Recipe, done: float) -> float:
    """From 0 to the peak during the warm-up, then to 0 at the last step."""
    peak = recipe.peak_lr * recipe.batch / 256
    if done < recipe.warmup:
        return peak * done / recipe.warmup
    return peak * max(0.0, 1 - done) / (1 - recipe.warmup)


# Epochs count from 1 and the run has 90 of them, as in the log of net 145: at its epoch 25 the rate
# drops, so 24/90 of the run have passed. A run of another length drops at the same fractions.
def _begins(epoch: int) -> float:
    return (epoch - 1) / 90


def _drops(done: float) -> float:
    """0.01, a tenth from epoch 25, 51 and 79 on."""
    return 0.01 * 0.1 ** sum(done >= _begins(epoch) for epoch in (25, 51, 79))


def _original(done: float) -> Rates:
    """Net 145: the biases' rate is doubled and never drops; conv1 goes ahead, then freezes."""
    rate = _drops(done)
    if done >= _begins(72):
        return Rates(rate, 0.02, 0.0, 0.0)
    return Rates(rate, 0.02, 1e-5 if done >= _begins(67) else rate, 0.02)


def _dexp(done: float) -> Rates:
    """Four equal stages down to a 250th; the biases' rate drops once, to a tenth, at half-time."""
    rate = 0.01 * 250 ** (-min(3, int(4 * done)) / 3)
    bias = 0.02 if done < 0.5 else 0.002
    return Rates(rate, bias, rate, bias)
