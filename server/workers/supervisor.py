"""Several whole servers behind the same ports: started, watched, replaced and stopped together."""

import asyncio
import json
import logging
import math
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from server.config import Config, host_names
from server.door import Door
from server.ports import reserved
from server.scheduler import cpus
from server.signals import on_hangup, stop_event, tell_systemd
from server.workers.overview import Overview
from server.workers.peers import Seat, hangs, tell

log = logging.getLogger(__name__)

# A worker that ended sooner would end again: the next takes its place after a pause.
STEADY_S, LONGEST_PAUSE_S = 10.0, 30.0
# A worker that says nothing for so long is killed: its connections would wait for ever.
PROBE_S, PATIENCE_S = 5.0, 30.0
GRACE_S = 5.0


class WorkerFailed(Exception):
    """It ended before it was ready, and has said why on stderr; the argument is its exit code."""


async def run(config: Config) -> None:
    """Serves until SIGTERM or SIGINT; a second one exits at once.

    Raises OSError for a port that is taken, SystemExit when a worker cannot serve at the start.
    """
    stop = stop_event()
    with (
        TemporaryDirectory(prefix="alexnet-") as name,
        reserved(config.host, config.http_port, config.grpc_port) as (http_port, grpc_port),
    ):
        folder = Path(name)
        tls = config.tls_certificate, config.tls_key, config.tls_client_ca
        door = Door.opened(*tls, names=host_names(config.allowed_hosts))
        overview = Overview(folder, config.host, config.metrics_port, door)
        await overview.start()
        watching = asyncio.create_task(door.watch())
        config = replace(
            share(config), http_port=http_port, grpc_port=grpc_port, metrics_port=overview.port
        )
        crew = Crew(config, folder, overview.ended)
        try:
            starting = asyncio.create_task(crew.start())
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                print(await starting, end="", flush=True)
                tell_systemd("READY=1")
                log.info("ready")
                on_hangup(partial(_reload, door, folder))
                await stopping
            starting.cancel()
        except WorkerFailed as error:
            (code,) = error.args
            if code <= 0:  # it has not said why
                raise OSError(f"a worker ended {_reason(code)} before it was ready") from None
            raise SystemExit(code) from None
        finally:
            watching.cancel()
            await crew.stop()
            await overview.stop()
    log.info("stopped")


async def _reload(door: Door, folder: Path) -> None:
    await door.refresh(anyway=True)
    await tell(folder, "/reload")


def share(config: Config) -> Config:
    """A worker's part: limits hold for all workers together, and so do the CPUs."""
    threads = max(1, cpus.available() // config.workers)
    return replace(
        config,
        max_queue_size=-(-config.max_queue_size // config.workers),
        max_photo_bytes=-(-config.max_photo_bytes // config.workers),
        engine_threads=config.engine_threads or threads,
        decode_threads=config.decode_threads or threads,
    )


class Crew:
    def __init__(self, config: Config, folder: Path, ended: Callable[[int], None]):
        """`ended` is called for each worker that ended by itself."""
        self._config, self._folder, self._ended = config, folder, ended
        self._processes: dict[int, Process] = {}
        self._watchers: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> str:
        """The banner. The first worker calibrates, and proves the model, for all."""
        banner = await self._start(0)
        await asyncio.gather(*(self._start(number) for number in range(1, self._config.workers)))
        self._watchers = [
            asyncio.create_task(self._watch(number), name=f"worker {number}")
            for number in self._processes
        ]
        return banner

    async def stop(self) -> None:
        """Asks all to finish what they accepted, and ends those that do not."""
        self._stopping = True
        running = [process for process in self._processes.values() if process.returncode is None]
        for process in running:
            process.terminate()
        patience_s = self._config.drain_delay_s + self._config.drain_timeout_s + GRACE_S
        waiting = [asyncio.create_task(process.wait()) for process in running]
        if waiting:
            await asyncio.wait(waiting, timeout=patience_s)
        for process in running:
            if process.returncode is None:
                log.error("process %d did not stop in time and is killed", process.pid)
                process.kill()
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*waiting, *self._watchers, return_exceptions=True)

    async def _start(self, number: int) -> str:
        """Its banner, once it is ready. Raises WorkerFailed."""
        # In a session of its own: Ctrl-C in a terminal is for the supervisor.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "server.worker", str(self._folder), str(number),
            stdin=PIPE, stdout=PIPE, start_new_session=True, env=_environment(),
        )  # fmt: skip
        self._processes[number] = process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(asdict(self._config)).encode() + b"\n")
        if banner := await process.stdout.read():
            return banner.decode()
        raise WorkerFailed(await process.wait())

    async def _watch(self, number: int) -> None:
        pause_s, ready = 0.0, time.monotonic()
        while True:
            process = self._processes[number]
            guard = asyncio.create_task(self._guard(process, Seat(self._folder, number)))
            code = await process.wait()
            guard.cancel()
            if self._stopping:
                return
            steady = time.monotonic() - ready > STEADY_S
            pause_s = 0.0 if steady else min(max(1.0, 2 * pause_s), LONGEST_PAUSE_S)
            log.error(
                "worker %d ended by itself, %s; another takes its place in %.0f s",
                number, _reason(code), pause_s,
            )  # fmt: skip
            self._ended(number)
            await asyncio.sleep(pause_s)
            if self._stopping:
                return
            ready = math.inf
            try:
                await self._start(number)
            except WorkerFailed:
                continue
            except OSError:
                log.exception("worker %d could not be started", number)
                continue
            ready = time.monotonic()
            log.info("worker %d is ready again", number)

    async def _guard(self, process: Process, seat: Seat) -> None:
        while not await hangs(seat, PATIENCE_S):
            await asyncio.sleep(PROBE_S)
        log.error("worker %d has said nothing for %.0f s and is killed", seat.number, PATIENCE_S)
        process.kill()


def _environment() -> dict[str, str]:
    """So that a worker takes this package, and nothing from the folder it is started in (-P)."""
    ours = str(Path(__file__).parents[2])
    given = os.environ.get("PYTHONPATH")
    result = {**os.environ, "PYTHONPATH": os.pathsep.join([ours, given] if given else [ours])}
    result.pop("NOTIFY_SOCKET", None)  # the supervisor speaks for all
    return result


def _reason(code: int) -> str:
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
