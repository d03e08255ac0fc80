"""`alexnet-server`: parse, run, exit code."""

import asyncio
import logging
import sys

from alexnet.manifest import BundleError
from server import logs
from server.app import run
from server.config import ConfigError, load

log = logging.getLogger(__name__)


def main() -> None:
    """Exit codes: 0 stopped as asked, 1 cannot serve, 2 wrong configuration."""
    try:
        config = load(sys.argv[1:])
    except ConfigError as error:
        print(f"alexnet-server: the configuration is wrong\n{error}", file=sys.stderr)
        sys.exit(2)
    logs.configure(config.log_level, config.log_format == "json")
    try:
        asyncio.run(run(config))
    except (BundleError, OSError) as error:
        sys.exit(f"alexnet-server: {error}")


if __name__ == "__main__":
    main()
