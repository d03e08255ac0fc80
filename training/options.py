"""The command line of `alexnet-train`."""

import argparse
from pathlib import Path

from alexnet import __version__
from training.recipe import RECIPES

EPILOG = """\
examples:
  alexnet-train photos/                       photos/cat/1.jpg, photos/dog/2.jpg: that is all
  alexnet-train photos/ --init none           from scratch
  alexnet-train --train photos/train --val photos/val --init models/mine --output runs/better
  alexnet-train --train imagenet/train --val imagenet/val --recipe 2012
  torchrun --nproc-per-node 8 -m training --train shards/train-*.tar --val val.zip --recipe modern
  alexnet-train --train photos --val val --recipe plain --init runs/a/last.safetensors --prune 0.9
  alexnet-train --train photos --val val --unlabelled more.zip --labels more.labels --recipe taught
  alexnet-train --recipe 2012 --plot rates.png

Ctrl-C saves; the same command with --resume goes on, to the same weights bit by bit.
docs/training.md explains the recipes, the networks, and what the run folder holds.
"""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="alexnet-train",
        usage="alexnet-train [SOURCE ...] [options]",
        description="Train AlexNet on photos in class folders (directories, zips, tar shards).",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    _add_photos(parser)
    _add_teacher(parser)
    _add_settings(parser)
    _add_devices(parser)
    arguments = parser.parse_args()
    arguments.train = [*arguments.sources, *(arguments.train or [])]
    if not arguments.plot and not arguments.train:
        if not arguments.unlabelled:
            parser.error("name a folder of photos: alexnet-train photos/ (--help has more)")
        if not arguments.val:
            parser.error("photos without classes cannot score: name some with classes (--val)")
    if arguments.init and arguments.resume:
        parser.error("--init begins a run, --resume goes on with one: pass one of them")
    return arguments


def _add_photos(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources", nargs="*", type=Path, metavar="SOURCE",
        help="photos to train, a folder for each class; train/ and val/ in it are found",
    )  # fmt: skip
    parser.add_argument("--train", nargs="+", type=Path, metavar="SOURCE", help="photos to train")
    parser.add_argument("--val", nargs="+", type=Path, metavar="SOURCE", help="photos to score")
    parser.add_argument(
        "--val-fraction", type=float, metavar="FRACTION",
        help="without --val: score with this part of each class, not trained on (default: 0.2)",
    )  # fmt: skip
    parser.add_argument(  # not --run: torchrun takes that for its own --run-path
        "--output", type=Path, metavar="FOLDER",
        help="the run folder (default: runs/NAME for SOURCE, runs/latest for --train)",
    )  # fmt: skip
    parser.add_argument(
        "--cache", type=Path, default=Path("runs/cache"), metavar="FOLDER",
        help="for packed photos, 192 KB each at 256 px (default: runs/cache)",
    )  # fmt: skip


def _add_teacher(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--unlabelled", nargs="+", type=Path, action="append", default=[], metavar="SOURCE",
        help="photos without classes, for which --labels has a teacher's answers; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--labels", nargs="+", type=Path, default=[], metavar="FILE",
        help="a teacher's answers to photos given here, as alexnet-label writes them",
    )  # fmt: skip
    parser.add_argument(
        "--share", nargs="+", type=float, default=[], metavar="FRACTION",
        help="of each batch, for each --unlabelled (default: in proportion to the photos)",
    )  # fmt: skip


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--recipe", choices=RECIPES, metavar="NAME",
        help=f"{', '.join(RECIPES)} (default: finetune for few photos, else plain)",
    )  # fmt: skip
    parser.add_argument(
        "--init", metavar="WEIGHTS",
        help="start from a bundle, a .pth, a .safetensors or a run folder of any classes; none: "
        "from scratch (default: the starter for few photos)",
    )  # fmt: skip
    parser.add_argument("--epochs", type=int, metavar="N", help="instead of the recipe's")
    parser.add_argument("--batch", type=int, metavar="N", help="instead of the recipe's")
    parser.add_argument("--lr", type=float, metavar="RATE", help="the highest learning rate")
    parser.add_argument(
        "--patience", type=int, metavar="N",
        help="stop after N epochs without a better one, and keep the best",
    )  # fmt: skip
    parser.add_argument("--precision", choices=("bf16", "fp32"), help="instead of the recipe's")
    parser.add_argument(
        "--prune", type=float, metavar="FRACTION",
        help="zero this fraction of the fully connected weights while training",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on from the run folder")
    parser.add_argument(
        "--plot", type=Path, metavar="PNG", help="draw the recipe's learning rates, and stop"
    )


def _add_devices(parser: argparse.ArgumentParser) -> None:
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
