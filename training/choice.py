"""The recipe of a run: what was asked for, and what follows from the number of photos."""

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from alexnet.starter import NAME, found
from training.checkpoint import Checkpoint, CheckpointError
from training.recipe import Recipe, get_recipe
from training.start import Start, read, suit
from training.state import FILE

SMALL = 10_000
"""Photos below which trained weights are the better start."""
NONE = "none"

FEW = 1_000
"""Photos below which the last layer learns alone: 900 photos of ten classes make as good a network
(77.7 against 77.0 % of 1,000 photos), sooner, and int8 keeps its first classes (ADR 25)."""

# Rates and batches are for this many photos; below, the rate falls with the square root.
_MANY = 100_000
_STEPS = 75  # of fine-tuning, at least: 181 photos of five classes gained nothing after 60
_FOLLOWS = ("plain", "finetune")


def choose(arguments: argparse.Namespace, photos: int | None) -> tuple[Recipe, Start | None]:
    """The recipe and the weights to start from, for so many photos to train; None: shards do not
    tell. Raises ValueError, CheckpointError."""
    _check(arguments)
    init = arguments.init
    if arguments.recipe is None and init is None and photos is not None and photos < SMALL:
        init = str(_starter())
    start = None if init in (None, NONE) else read(Path(init))
    name = arguments.recipe or ("plain" if start is None else "finetune")
    if name == "finetune" and start is None:
        raise ValueError("recipe finetune needs weights to start from: pass --init")
    recipe = get_recipe(name)
    if name in _FOLLOWS:
        recipe = follow(recipe, _MANY if photos is None else photos)
    recipe = override(recipe, arguments)
    if recipe.sparsity and recipe.frozen == 1.0:  # what loses weights must learn to do without them
        recipe = replace(recipe, frozen=0.0)
    if start is None:
        return recipe, None
    if name == "finetune":
        recipe = suit(recipe, start)
    return recipe, start.for_network(recipe.arch)


def resumed(arguments: argparse.Namespace, run: Path) -> Recipe:
    """The recipe of the run folder, with what the command line asks for besides: the run refuses
    to go on if that is something else."""
    facts = Checkpoint.load(run / FILE).facts
    try:
        recipe = Recipe.from_json(facts["recipe"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{run / FILE} is damaged: {error}") from None
    if arguments.recipe not in (None, recipe.name):
        recipe = get_recipe(arguments.recipe)
    return override(recipe, arguments)


def follow(recipe: Recipe, photos: int) -> Recipe:
    """Batch and rate, and in fine-tuning the epochs, for so many photos.

    Few photos make few steps: from scratch, an epoch has sixteen or more, within limits. The rate
    of 0.15 for a batch of 256 was found on 100,000 photos; on 2,500 it ruins the run and 0.02 is
    right, so it falls with the root of their number. Fine-tuning needs less of everything: four
    steps an epoch, and fewer epochs for more photos; 0.01 for a batch of 32 is right for all.
    """
    if recipe.name == "plain":
        batch = min(recipe.batch, max(16, _power_of_two(photos // 16)))
        peak = recipe.peak_lr * min(1.0, math.sqrt(max(photos, 1) / _MANY))
        return replace(recipe, batch=batch, peak_lr=peak)
    batch = min(recipe.batch, max(2, _power_of_two(photos // 4)))
    epochs = min(20, max(recipe.epochs, math.ceil(_STEPS / max(1, photos // batch))))
    return replace(
        recipe, batch=batch, epochs=epochs, frozen=1.0 if photos < FEW else recipe.frozen
    )


def _power_of_two(most: int) -> int:
    """The largest that is not above `most`, at least 1."""
    return 1 << (max(1, most).bit_length() - 1)


def override(recipe: Recipe, arguments: argparse.Namespace) -> Recipe:
    """With the settings of the command line in place of the recipe's."""
    wanted: dict[str, Any] = {
        "epochs": arguments.epochs, "batch": arguments.batch,
        "precision": arguments.precision, "sparsity": arguments.prune,
    }  # fmt: skip
    recipe = replace(recipe, **{k: v for k, v in wanted.items() if v is not None})
    if arguments.lr is None:
        return recipe
    if recipe.schedule != "linear":
        raise ValueError(f"the rates of recipe {recipe.name} are those of 2012: leave out --lr")
    return replace(recipe, peak_lr=arguments.lr * 256 / recipe.batch)


def _starter() -> Path:
    """Raises CheckpointError where it was left out."""
    path = found(NAME)
    if not path.is_file():
        raise CheckpointError(
            f"{NAME} is not here to start from: pass --init WEIGHTS, or --init none to train from "
            "scratch"
        )
    return path


def _check(arguments: argparse.Namespace) -> None:
    """Raises ValueError for numbers that cannot be meant."""
    if arguments.prune is not None and not 0 <= arguments.prune < 1:
        raise ValueError(f"--prune {arguments.prune} is no fraction from 0 to below 1")
    if arguments.lr is not None and not 0 < arguments.lr < 10:
        raise ValueError(f"--lr {arguments.lr} is no learning rate: 0.01 is a common one")
    for name in ("epochs", "batch", "patience"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} {value}: at least 1 is needed")
