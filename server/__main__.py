"""`alexnet-server`: parse, run, exit code."""

# ruff: noqa: E402
import os
import signal

# From the first: process 1 of a container ignores signals without a handler, and the imports below
# take a second. Nothing is lost before there is a server.
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: os._exit(0))

# Until there is a server that could read something again.
signal.signal(signal.SIGHUP, signal.SIG_IGN)

import resource
import sys

from server.config import ConfigError
from server.options import load
from server.running import run, run_or_exit
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
    if config.log_format == "json":
        logs.wrap_stderr()
    logs.configure(config.log_level, config.log_format == "json")
    run_or_exit(supervisor.run(config) if config.workers > 1 else run(config))


if __name__ == "__main__":
    main()
