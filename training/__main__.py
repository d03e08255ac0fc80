"""`alexnet-train`: photos in class folders -> a checkpoint that `alexnet-export` takes."""

import argparse
import logging
import sys
from pathlib import Path

from alexnet.preprocess import InvalidImage
from alexnet.spec import Preprocess
from training.data import load
from training.loop import Training
from training.recipe import RECIPES, named


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        train(_arguments())
    except (ValueError, InvalidImage, OSError, FloatingPointError) as error:
        sys.exit(f"alexnet-train: {error}")
    except KeyboardInterrupt:
        sys.exit("\nstopped; the last finished epoch is saved, --resume goes on from there")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="alexnet-train",
        description="Train AlexNet on photos in class folders (directories or zips).",
        epilog="example: alexnet-train --train photos/train --val photos/val --recipe plain",
    )
    parser.add_argument("--train", nargs="+", type=Path, required=True, metavar="DIR_OR_ZIP")
    parser.add_argument("--val", nargs="+", type=Path, required=True, metavar="DIR_OR_ZIP")
    parser.add_argument("--run", type=Path, default=Path("runs/latest"), help="folder to write")
    parser.add_argument("--recipe", choices=RECIPES, default="plain", help="default: plain")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--batch", type=int, help="instead of the recipe's")
    parser.add_argument("--init", type=Path, help="start from the weights of a last.safetensors")
    parser.add_argument("--resume", action="store_true", help="go on from the run folder")
    return parser.parse_args()


def train(arguments: argparse.Namespace) -> None:
    recipe = named(arguments.recipe, epochs=arguments.epochs, batch=arguments.batch)
    data = load(arguments.train, Preprocess(recipe.store, recipe.store))
    logging.info("%d photos of %d classes; recipe %s", len(data), len(data.known), recipe.name)
    training = Training(recipe, data, arguments.run)
    if arguments.init:
        training.init(arguments.init)
    if arguments.resume:
        training.resume()
    result = training.fit(arguments.val)
    logging.info("%s\nwrote %s", result, arguments.run / "model.safetensors")


if __name__ == "__main__":
    main()
