"""`alexnet-train`: photos in class folders -> a checkpoint for `alexnet-export`."""

import logging

from alexnet.extras import needing
from training.options import parse


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = parse()
    with needing("train", "alexnet-train"):
        from training.run import run_or_exit
    run_or_exit(arguments)


if __name__ == "__main__":
    main()
