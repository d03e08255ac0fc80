"""`alexnet-plan`: builds a bundle's TensorRT plan before the first start of the server.

TensorRT for RTX can also build for GPUs of other machines, to which the folder is copied.
"""

import argparse
import logging
import sys
from pathlib import Path

from alexnet import __version__
from alexnet.bundle import Bundle
from alexnet.extras import needing
from alexnet.spec import PRECISIONS, batch_sizes

log = logging.getLogger(__name__)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = _arguments()
    try:
        with needing("server-tensorrt", "alexnet-plan"):
            to_tensorrt(arguments)
    except (ImportError, ValueError, OSError, RuntimeError) as error:
        sys.exit(f"alexnet-plan: {error}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="alexnet-plan",
        description="Build a bundle's TensorRT plan, where the server will look for it.",
        epilog="example: alexnet-plan models/mine --precision int8",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("bundle", type=Path, help="a directory or a .tar.xz")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp16", help="default: fp16")
    parser.add_argument(
        "--max-batch-size", type=int, default=32, metavar="N",
        help="the server's --max-batch-size; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--cache-dir", type=Path, default=Path("~/.cache/alexnet"), metavar="DIR",
        help="the server's --cache-dir; default: %(default)s",
    )  # fmt: skip
    parser.add_argument("--device", type=int, default=0, metavar="N", help="the GPU; default: 0")
    parser.add_argument(
        "--for-capability", type=_capability, metavar="8.9",
        help="for GPUs elsewhere, of this compute capability; needs tensorrt-rtx and no GPU",
    )  # fmt: skip
    return parser.parse_args()


def to_tensorrt(arguments: argparse.Namespace) -> None:
    from gpu.facts import Gpu, facts
    from gpu.plan import MODULES, cached

    bundle, precision = Bundle.open(arguments.bundle), arguments.precision
    artifact = bundle.manifest.source(precision)
    if artifact is None:
        raise ValueError(f"{bundle.origin} has no artifact that {precision} can be made of")
    sizes = batch_sizes(arguments.max_batch_size)
    folder, modules = arguments.cache_dir.expanduser(), MODULES
    if arguments.for_capability:
        gpu, modules = Gpu("", arguments.for_capability, ""), MODULES[1:]
    else:
        from gpu.cuda import CudaDevice

        CudaDevice(arguments.device)  # makes it CUDA's current device, for which TensorRT builds
        gpu = facts(arguments.device)
    plan = cached(bundle.files[artifact.file], precision, sizes, gpu, folder, modules=modules)
    if not plan.key.file(folder).exists():
        raise OSError(f"the plan could not be written to {folder}")
    log.info("%s", plan.key.file(folder))


def _capability(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


if __name__ == "__main__":
    main()
