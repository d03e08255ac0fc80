"""A server from its start to its end: ready, told to read again, told to stop."""

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Coroutine
from functools import partial

from alexnet import golden_photos
from alexnet.manifest import BundleError
from server import memory
from server.app import reload, serving
from server.banner import banner
from server.config import Config
from server.signals import on_hangup, stop_event, tell_systemd
from server.telemetry import logs
from server.telemetry.traces import CannotTrace
from server.workers.peers import Seat

log = logging.getLogger(__name__)


async def _exit_on(stop: asyncio.Event) -> None:
    """Before it is ready no request is lost, and building an engine may take minutes."""
    await stop.wait()
    log.info("stopped before it was ready")
    os._exit(0)


async def run(config: Config, seat: Seat | None = None) -> None:
    """Serves until SIGTERM or SIGINT; a second one exits at once."""
    # What was imported stays, and need not be searched for garbage: that was a tenth of what a
    # refusal costs. It is searched for as often as ever, or gRPC's messages lie about (+200 MB).
    gc.freeze()
    memory.return_large_blocks()
    stop = stop_event()
    exiting = asyncio.create_task(_exit_on(stop))
    async with serving(config, seat, exiting.cancel) as server:
        metrics_port = config.metrics_port if seat else server.private.port
        ports = server.http.port, server.grpc.port, metrics_port
        served = server.service.repository.served
        shape = server.decode_threads, config.workers
        text = banner(served, config.host, *ports, *shape, server.door)
        json_lines = config.log_format == "json"
        print(logs.as_json(text) if json_lines else text, flush=True)
        # The supervisor reads to the end; what else may be printed belongs into the log.
        if seat or json_lines:
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        if not seat:
            tell_systemd("READY=1")
        log.info("ready")
        on_hangup(partial(reload, server.door, server.service.repository))
        await stop.wait()
    log.info("stopped")


def run_or_exit(server: Coroutine[None, None, None]) -> None:
    """Runs it to its end, or exits with a sentence that says why it cannot serve."""
    try:
        asyncio.run(server)
    except (BundleError, OSError, golden_photos.PixelsChanged, CannotTrace) as error:
        sys.exit(f"alexnet-server: {error}")
