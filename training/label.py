"""`alexnet-label`: photos and a teacher -> soft labels for `alexnet-train --labels`."""

import argparse
import logging
import sys
from pathlib import Path

from alexnet import __version__
from alexnet.extras import needing
from training.recipe import RECIPES

EPILOG = """\
The teacher is an ONNX file. A JSON file beside it, teacher.json for teacher.onnx, says how it wants
photos: {"input": "images", "layout": "NCHW", "side": 224, "resize": 256, "mean": 127, "scale": 128,
"output": "logits", "classes": "imagenet"}. Its input is (value - mean) / scale.

examples:
  alexnet-label lite0.onnx --photos more.zip --recipe taught --output more.labels
  alexnet-label lite0.onnx --photos a.zip b.zip --val val.zip --recipe taught --output ab.labels

Ctrl-C keeps what is done; the same command goes on. docs/training.md explains how to learn from it.
"""


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = _arguments()
    with needing("train", "alexnet-label"):
        from training.labelling import label_photos
    try:
        label_photos(arguments)
    except (ValueError, OSError) as error:
        sys.exit(f"alexnet-label: {error}")
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command goes on")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="alexnet-label",
        description="Write down what a teacher answers to photos, for alexnet-train to learn from.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("teacher", type=Path, metavar="TEACHER.onnx")
    parser.add_argument(
        "--photos", nargs="+", type=Path, required=True, metavar="SOURCE",
        help="directories, zips, tar shards: the sources of one --unlabelled or of --train",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="for the labels")
    parser.add_argument(
        "--recipe", choices=RECIPES, default="taught", metavar="NAME",
        help="of the training to come: its packed size, views and seed (default: taught)",
    )  # fmt: skip
    parser.add_argument(
        "--views",
        type=int,
        default=2,
        metavar="N",
        help="different crops of each photo (default: 2)",
    )
    parser.add_argument(
        "--best",
        type=int,
        default=10,
        metavar="K",
        help="classes kept of each answer (default: 10)",
    )
    parser.add_argument(
        "--val", nargs="+", type=Path, default=[], metavar="SOURCE",
        help="photos in class folders, to score the teacher on first: is its JSON right?",
    )  # fmt: skip
    parser.add_argument(
        "--cache", type=Path, default=Path("runs/cache"), metavar="FOLDER",
        help="for packed photos, the same as of alexnet-train (default: runs/cache)",
    )  # fmt: skip
    arguments = parser.parse_args()
    if arguments.views < 1 or arguments.best < 1:
        parser.error("--views and --best are at least 1")
    return arguments


if __name__ == "__main__":
    main()
