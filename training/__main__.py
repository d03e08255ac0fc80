"""`alexnet-train`: photos in class folders -> a checkpoint for `alexnet-export`."""

import argparse
import logging
import sys
from pathlib import Path

from alexnet.preprocess import InvalidImage
from alexnet.spec import Preprocess
from training.data import load
from training.layers import CrossMapNorm
from training.loop import Training
from training.plots import plot_learning_rates
from training.ranks import Ranks, join_run
from training.recipe import RECIPES, Recipe, get_recipe
from training.report import LOG

EPILOG = """\
examples:
  alexnet-train --train photos/train --val photos/val --recipe plain
  alexnet-train --train imagenet/train --val imagenet/val --recipe 2012
  torchrun --nproc-per-node 8 -m training --train shards/train-*.tar --val val.zip --recipe modern
  alexnet-train --train photos --val val --recipe plain --init runs/a/last.safetensors --prune 0.9
  alexnet-train --recipe 2012 --plot rates.png

Ctrl-C saves; the same command with --resume goes on, to the same weights bit by bit.
docs/training.md explains the recipes, the networks, and what the run folder holds.
"""


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = _arguments()
    try:
        if arguments.plot:
            plot_learning_rates(_recipe(arguments), arguments.plot)
            print(f"wrote {arguments.plot}")
            return
        with join_run() as ranks:
            if not ranks.first:
                logging.getLogger().setLevel(logging.ERROR)
            train(arguments, ranks)
    except (ValueError, InvalidImage, OSError, FloatingPointError) as error:
        sys.exit(f"alexnet-train: {error}")
    except KeyboardInterrupt:
        sys.exit("\nstopped; --resume goes on from the last checkpoint")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="alexnet-train",
        description="Train AlexNet on photos in class folders (directories, zips, tar shards).",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--train", nargs="+", type=Path, metavar="SOURCE", help="photos to train")
    parser.add_argument("--val", nargs="+", type=Path, metavar="SOURCE", help="photos to score")
    parser.add_argument(  # not --run: torchrun takes that for its own --run-path
        "--output",
        type=Path,
        default=Path("runs/latest"),
        metavar="FOLDER",
        help="the run folder (default: runs/latest)",
    )
    parser.add_argument(
        "--cache", type=Path, default=Path("runs/cache"), metavar="FOLDER",
        help="for packed photos, 192 KB each at 256 px (default: runs/cache)",
    )  # fmt: skip
    parser.add_argument(
        "--recipe", choices=RECIPES, default="plain", metavar="NAME",
        help=f"{', '.join(RECIPES)} (default: plain)",
    )  # fmt: skip
    parser.add_argument("--epochs", type=int, metavar="N", help="instead of the recipe's")
    parser.add_argument("--batch", type=int, metavar="N", help="instead of the recipe's")
    parser.add_argument("--precision", choices=("bf16", "fp32"), help="instead of the recipe's")
    parser.add_argument(
        "--prune", type=float, metavar="FRACTION",
        help="zero this fraction of the fully connected weights while training",
    )  # fmt: skip
    parser.add_argument(
        "--init", type=Path, metavar="FILE", help="start from the weights of a last.safetensors"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the run folder")
    parser.add_argument(
        "--columns", action="store_true", help="one column of alexnet2012 on each of two processes"
    )
    parser.add_argument(
        "--bf16-gradients", action="store_true",
        help="several processes exchange gradients in bf16: half the traffic",
    )  # fmt: skip
    parser.add_argument(
        "--fused-norms", action="store_true",
        help="the norms across maps by our own GPU kernels: experimental",
    )  # fmt: skip
    parser.add_argument(
        "--plot", type=Path, metavar="PNG", help="draw the recipe's learning rates, and stop"
    )
    arguments = parser.parse_args()
    if not arguments.plot and not (arguments.train and arguments.val):
        parser.error("--train and --val are needed (or --plot)")
    if arguments.init and arguments.resume:
        parser.error("--init begins a run, --resume goes on with one: pass one of them")
    return arguments


def _recipe(arguments: argparse.Namespace) -> Recipe:
    if arguments.prune is not None and not 0 <= arguments.prune < 1:
        raise ValueError(f"--prune {arguments.prune} is no fraction from 0 to below 1")
    return get_recipe(
        arguments.recipe, epochs=arguments.epochs, batch=arguments.batch,
        precision=arguments.precision, sparsity=arguments.prune,
    )  # fmt: skip


def train(arguments: argparse.Namespace, ranks: Ranks) -> None:
    recipe = _recipe(arguments)
    if (arguments.output / LOG).exists() and not arguments.resume:
        raise ValueError(
            f"{arguments.output} holds a run: go on with it (--resume) or name another --output"
        )
    with ranks.local_first():
        spec = Preprocess(recipe.store, recipe.store)
        data = load(arguments.train, spec, cache=arguments.cache)
    logging.info(
        "%s photos of %d classes; recipe %s: %s, %d epochs on %s",
        f"{len(data):,}", len(data.known), recipe.name, recipe.arch, recipe.epochs, _where(ranks),
    )  # fmt: skip
    training = Training(
        recipe, data, arguments.output, ranks,
        columns=arguments.columns, bf16_gradients=arguments.bf16_gradients,
    )  # fmt: skip
    for module in training.network.modules():
        if isinstance(module, CrossMapNorm):
            module.fused = arguments.fused_norms
    if arguments.init:
        training.state.init(arguments.init)
    if arguments.resume:
        training.state.resume(arguments.output)
    result = training.fit(arguments.val, arguments.cache)
    logging.info("%s\nwrote %s", result, arguments.output / "model.safetensors")


def _where(ranks: Ranks) -> str:
    return ranks.device.type if ranks.count == 1 else f"{ranks.count} x {ranks.device.type}"


if __name__ == "__main__":
    main()
