"""What `alexnet-export` is told."""

import argparse
from pathlib import Path


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="alexnet-export",
        description="Turn AlexNet weights into a bundle: ONNX, fp32 and int8, verified on photos.",
        epilog="example: alexnet-export runs/photos/model.safetensors --photos photos/ "
        "--val-fraction 0.2 --output models/mine",
    )
    parser.add_argument(
        "weights", type=Path,
        help="model.safetensors, torchvision's .pth (any number of classes), a bundle, "
        "a .caffemodel, a cuda-convnet checkpoint",
    )  # fmt: skip
    parser.add_argument(
        "--photos", nargs="+", type=Path, required=True, metavar="DIR_OR_ZIP",
        help="any typical photos, for the calibration of int8, the parity check, the golden batch",
    )  # fmt: skip
    parser.add_argument(
        "--val", nargs="+", type=Path, default=[], metavar="DIR_OR_ZIP",
        help="photos in class folders, for parity and accuracy",
    )  # fmt: skip
    parser.add_argument(
        "--val-fraction", type=float, metavar="FRACTION",
        help="the photos that alexnet-train held out of --photos with the same fraction, as --val",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, help="folder, or file.tar.xz")
    parser.add_argument(
        "--precision", metavar="LIST",
        help="int8, fp32 or both (default: both, or fp32 alone where int8 is too far off)",
    )  # fmt: skip
    parser.add_argument(
        "--classes", type=Path, metavar="FILE",
        help="names for weights that do not name their classes, one a line (else: numbers)",
    )  # fmt: skip
    add_weight_options(parser)
    parser.add_argument(
        "--crop", type=int, metavar="PX",
        help="side of what the network sees of a photo, if not as in training: with 128 px it has "
        "a third of the work of 224",
    )  # fmt: skip
    parser.add_argument(
        "--remarks", type=Path, metavar="FILE", help="text that the model card ends with"
    )
    parser.add_argument("--calibration-photos", type=int, default=512, metavar="N")
    parser.add_argument("--name", default="alexnet")
    parser.add_argument("--version", help="default: today's date and the weights' hash")
    parser.add_argument("--description", help="one sentence about the model")
    return parser.parse_args()


def add_weight_options(parser: argparse._ActionsContainer) -> None:
    """What weights do not say of themselves, and a bundle does."""
    parser.add_argument(
        "--class-order", type=Path, metavar="FILE",
        help="for weights without a class order: one synset a line",
    )  # fmt: skip
    parser.add_argument(
        "--mean", type=Path, metavar="FILE",
        help="the mean image of a .caffemodel (a binaryproto) or of cuda-convnet (a batches.meta)",
    )  # fmt: skip
