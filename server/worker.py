"""One of several servers behind the same ports; server/workers/supervisor.py starts it.

    python -m server.worker FOLDER NUMBER

Its configuration is a line of JSON on stdin, which then stays open as long as the supervisor lives.
It prints the banner when it is ready.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from server.config import Config
from server.running import run, run_or_exit
from server.telemetry import logs
from server.workers.peers import Seat


def main() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it is ready
    config = Config(**json.loads(sys.stdin.readline()))
    seat = Seat(Path(sys.argv[1]), int(sys.argv[2]))
    logs.configure(config.log_level, config.log_format == "json", f"worker {seat.number}")
    run_or_exit(_run(config, seat))


async def _run(config: Config, seat: Seat) -> None:
    asyncio.get_running_loop().add_reader(sys.stdin, _orphaned)
    await run(config, seat)


def _orphaned() -> None:
    """The supervisor is gone: as if told to stop, and at once if that was before."""
    asyncio.get_running_loop().remove_reader(sys.stdin)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
