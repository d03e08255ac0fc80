"""`alexnet-export`: a checkpoint or torchvision weights -> a bundle for `alexnet-server`."""

import logging

from alexnet.extras import needing
from export.options import parse


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = parse()
    with needing("export", "alexnet-export"):
        from export.run import run_or_exit
    run_or_exit(arguments)


if __name__ == "__main__":
    main()
