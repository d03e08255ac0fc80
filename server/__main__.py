"""`alexnet-server`: parse, run, exit code."""

import asyncio
import resource
import sys
from collections.abc import Coroutine

from alexnet.manifest import BundleError
from server.app import run
from server.config import ConfigError, load
from server.telemetry import logs
from server.workers import supervisor


def main() -> None:
    """Exit codes: 0 stopped as asked, 1 cannot serve, 2 wrong configuration."""
    try:
        config = load(sys.argv[1:])
    except ConfigError as error:
        print(f"alexnet-server: the configuration is wrong\n{error}", file=sys.stderr)
        sys.exit(2)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection is a file
    logs.configure(config.log_level, config.log_format == "json")
    exiting(supervisor.run(config) if config.workers > 1 else run(config))


def exiting(server: Coroutine[None, None, None]) -> None:
    """Runs it to its end, or exits with a sentence that says why it cannot serve."""
    try:
        asyncio.run(server)
    except (BundleError, OSError) as error:
        sys.exit(f"alexnet-server: {error}")


if __name__ == "__main__":
    main()
