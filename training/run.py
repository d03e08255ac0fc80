"""What `alexnet-train` does, and how it ends."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from alexnet.preprocess import InvalidImage
from alexnet.spec import Preprocess
from training.checks import check_disk, check_photos, check_recipe, count_photos, sentence
from training.choice import choose, override, resumed
from training.classes import class_table
from training.data import Dataset
from training.layers import CrossMapNorm
from training.loop import Training
from training.memory import keep_freed_memory
from training.next_steps import next_steps
from training.photos import Photos
from training.plots import plot_learning_rates
from training.pools import Pool, describe, open_pools, teacher_classes
from training.ranks import Ranks, join_run
from training.recipe import Recipe, get_recipe
from training.report import LOG
from training.sources import resolve, run_name
from training.start import Start
from training.state import FILE


def run_or_exit(arguments: argparse.Namespace) -> None:
    arguments.output = arguments.output or _output(arguments)
    try:
        if arguments.plot:
            recipe = override(get_recipe(arguments.recipe or "plain"), arguments)
            plot_learning_rates(recipe, arguments.plot)
            print(f"wrote {arguments.plot}")
            return
        with join_run() as ranks:
            if ranks.device.type == "cpu":
                keep_freed_memory()
            if not ranks.first:
                logging.getLogger().setLevel(logging.ERROR)
            train(arguments, ranks)
    except (ValueError, InvalidImage, OSError, ArithmeticError, RuntimeError, MemoryError) as error:
        logging.debug("", exc_info=True)
        # Under torchrun every process fails alike: the first one says so.
        first = os.environ.get("RANK", "0") == "0"
        sys.exit(f"alexnet-train: {sentence(error)}" if first else 1)
    except KeyboardInterrupt:
        saved = (arguments.output / FILE).exists()
        sys.exit(
            "\nstopped; --resume goes on from the last checkpoint"
            if saved
            else "\nstopped before the first step: there is nothing to go on from"
        )


def _output(arguments: argparse.Namespace) -> Path:
    return Path("runs") / (run_name(arguments.sources) if arguments.sources else "latest")


def train(arguments: argparse.Namespace, ranks: Ranks) -> None:
    run = arguments.output
    if not arguments.resume and any((run / name).exists() for name in (LOG, FILE)):
        raise ValueError(f"{run} holds a run: go on with it (--resume) or name another --output")
    sources = resolve(arguments.train, arguments.val or [], arguments.val_fraction)
    photos, val = sources.photos()
    more = [Photos(found) for found in arguments.unlabelled]
    taught = teacher_classes(arguments.labels)
    check_photos(photos, val, taught)
    count = count_photos([photos, *more])
    if arguments.resume:
        recipe, start = resumed(arguments, run), None
    else:
        recipe, start = choose(arguments, count)
    check_recipe(recipe, count)
    if ranks.first:
        check_disk(recipe, photos, val, arguments.cache, run, more, taught)
    with ranks.local_first():
        data, pools = open_pools(
            photos or [], more, arguments.labels, arguments.share,
            Preprocess(recipe.store, recipe.store), arguments.cache,
        )  # fmt: skip
    _announce(recipe, start, data, pools, ranks)
    training = Training(
        recipe, data, run, ranks, pools=pools,
        columns=arguments.columns, bf16_gradients=arguments.bf16_gradients,
    )  # fmt: skip
    for module in training.network.modules():
        if isinstance(module, CrossMapNorm):
            module.fused = arguments.fused_norms
    if start:
        training.state.init(start)
    if arguments.resume:
        training.state.resume(run)
    result = training.fit(val, arguments.cache, patience=arguments.patience)
    logging.info("%s", result.in_words(len(training.known)))
    if training.outcome:
        logging.info("\n%s\n", "\n".join(class_table(training.outcome.confusion, data.labels)))
    logging.info("wrote %s and %s\n", run / "model.safetensors", run / "card.md")
    logging.info("%s", next_steps(run, sources))


def _announce(
    recipe: Recipe, start: Start | None, data: Dataset, pools: Sequence[Pool], ranks: Ranks
) -> None:
    logging.info(
        "%s photos of %d classes%s; recipe %s: %s, %d epochs on %s",
        f"{len(data):,}", len(data.known), describe(pools), recipe.name, recipe.arch,
        recipe.epochs, _where(ranks),
    )  # fmt: skip
    if recipe.schedule == "linear":
        logging.info("batch %d, highest rate %.2g", recipe.batch, recipe.highest_rate)
    if start:
        logging.info("%s", start.describe(data.labels))


def _where(ranks: Ranks) -> str:
    return ranks.device.type if ranks.count == 1 else f"{ranks.count} x {ranks.device.type}"
