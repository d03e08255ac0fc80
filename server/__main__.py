"""`alexnet-server`: parse, run, exit code."""

import resource
import sys

from server.app import run, run_or_exit
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
    run_or_exit(supervisor.run(config) if config.workers > 1 else run(config))


if __name__ == "__main__":
    main()
