"""A server that runs, with all the processes that it started: what they cost, and their end.

They are found by a mark in their environment: some servers start daemons in sessions of their own.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from benchmarks.peers.environment import CannotRun

MARK = "BENCHMARK_OF"
START_S, STOP_S = 120.0, 15.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Running:
    def __init__(self, port: int, mark: str) -> None:
        self.port = port
        self._mark = f"{MARK}={mark}".encode()

    def processes(self) -> list[int]:
        return [int(path.name) for path in Path("/proc").glob("[0-9]*") if self._is_ours(path)]

    def cpu_s(self) -> float:
        """CPU time of its processes, and of those of their children that have ended."""
        ticks = 0
        for pid in self.processes():
            with suppress(OSError):
                after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
                ticks += sum(map(int, after_name[11:15]))  # proc(5): utime, stime, cutime, cstime
        return ticks / TICKS_PER_S

    def memory_mb(self) -> float:
        """Pages that several of its processes share count once."""
        kilobytes = 0
        for pid in self.processes():
            with suppress(OSError):
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                kilobytes += next(int(r.split()[1]) for r in text.splitlines() if r[:4] == "Pss:")
        return kilobytes / 1000

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Takes no CPU time meanwhile: LitServe, asked for nothing, takes a quarter of a core."""
        pids = self.processes()
        _signal(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(pids, signal.SIGCONT)

    def _is_ours(self, path: Path) -> bool:
        try:
            return self._mark in (path / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is another user's
            return False


@contextmanager
def running(
    command: str, folder: Path, environment: Mapping[str, str], log: Path,
    ready: Callable[[int], bool],
) -> Iterator[Running]:  # fmt: skip
    """Runs `command` in a shell, with PORT set, until the block ends; raises CannotRun, with the
    end of its log, unless it is `ready` within two minutes."""
    mark, port = uuid4().hex, _free_port()
    environment = {**os.environ, **environment, MARK: mark, "PORT": str(port)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, shell=True, cwd=folder, env=environment,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    server = Running(port, mark)
    try:
        end = time.monotonic() + START_S
        while not ready(port):
            if process.poll() is not None:
                raise CannotRun(f"it ended at its start: {_end_of(log)}")
            if time.monotonic() > end:
                raise CannotRun(f"it was not ready after {START_S:.0f} s: {_end_of(log)}")
            time.sleep(0.2)
        yield server
    finally:
        _stop(process, server)


def _stop(process: "subprocess.Popen[bytes]", server: Running) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    # Those that went away from it, or did not heed it, may be in the midst of starting others.
    while left := server.processes():
        _signal(left, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.1)


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _free_port() -> int:
    """One with a few free ones after it: some servers take several."""
    while True:
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
        with suppress(OSError, OverflowError):
            for further in range(1, 5):
                with socket.socket() as other:
                    other.bind(("127.0.0.1", port + further))
            return port


def _end_of(log: Path) -> str:
    """The last line that says something, which of a traceback is the error."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "it said nothing")[-300:]
