"""The composition root: build, prove, serve, drain, stop. The only module that knows them all."""

import asyncio
import gc
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from alexnet.manifest import BundleError
from server.api.grpc import RpcFace
from server.api.http import HttpFace
from server.banner import banner
from server.config import Config
from server.models.opener import Opener
from server.models.policy import VersionPolicy
from server.models.repository import Repository
from server.scheduler import cpus
from server.scheduler.decoder import Decoder
from server.service import DataPlane, Limits, State
from server.signals import stop_event
from server.telemetry.metrics import Metrics
from server.workers.peers import Seat, served_by_others

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Server:
    """Everything that runs, with the ports it really got."""

    plane: DataPlane
    http: HttpFace
    rpc: RpcFace
    decode_threads: int


def registry() -> CollectorRegistry:
    """A registry of our own, with the process's CPU, memory and file descriptors."""
    result = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=result)
    PlatformCollector(registry=result)
    GCCollector(registry=result)
    return result


@asynccontextmanager
async def serving(
    config: Config, seat: Seat | None = None, listening: Callable[[], object] = lambda: None
) -> AsyncIterator[Server]:
    """A server that is ready inside the block and has answered everybody after it; `listening` is
    called before anybody can connect.

    Raises BundleError for a model that cannot be served, OSError for a port that is taken.
    """
    metrics = Metrics(registry())
    decode_threads = config.decode_threads or cpus.available()
    decoder = Decoder(decode_threads, config.max_image_pixels, config.priority_levels, metrics)
    policy = VersionPolicy(config.version_policy, config.version_weights)
    opener = Opener(config, decoder, metrics)
    repository = opener.repository = Repository(Path(config.model), policy, opener.open)
    plane = DataPlane(repository, decoder, limits(config), metrics)
    control = config.repository_control
    http = HttpFace(
        plane, metrics.registry, config.host, config.http_port, config.metrics_port, control, seat
    )
    rpc = RpcFace(plane, config.host, config.grpc_port, control, seat)
    polling = None
    try:
        await _load(repository, await served_by_others(seat) if seat else None)
        if config.poll_s:
            polling = asyncio.create_task(repository.poll(config.poll_s), name="poll")
        listening()
        await rpc.start()
        await http.start()
        if seat:
            await _catch_up(repository, seat)
        yield Server(plane, http, rpc, decode_threads)
        await _drain(plane, rpc, config)
    finally:
        if polling:
            polling.cancel()
        await rpc.stop(0)
        await http.stop()
        await repository.close()
        await asyncio.to_thread(decoder.close)


async def _catch_up(repository: Repository, seat: Seat) -> None:
    """Versions may have been exchanged before the others could reach this one."""
    others = await served_by_others(seat)
    try:
        if others is not None:
            await _load(repository, others)
    except (BundleError, OSError) as error:
        log.error("what the others serve is not served here: %s", error)


async def _load(repository: Repository, others: list[str] | None) -> None:
    """What the other workers serve, if there are any: it may be nothing, by request."""
    if others != [] or not repository.name:
        await repository.load(others or None)
    if others == []:
        await repository.unload()


def limits(config: Config) -> Limits:
    return Limits(
        config.max_queue_size,
        config.max_request_bytes,
        config.max_photo_bytes,
        config.request_timeout_ms / 1000,
        config.priority_levels,
        config.default_priority_level or config.priority_levels,
    )


async def _drain(plane: DataPlane, rpc: RpcFace, config: Config) -> None:
    """Not ready at once, so that nobody new is sent here; then everybody admitted is answered."""
    plane.state = State.LEAVING
    await rpc.refresh_health()
    await asyncio.sleep(config.drain_delay_s)
    if await plane.drain(config.drain_timeout_s):
        log.info("everything accepted was answered")
    else:
        log.warning("gave up on requests that took longer than the drain timeout")
    # The answers have been made; let the sockets carry them away.
    await rpc.stop(1.0)


async def _abandon(stop: asyncio.Event) -> None:
    """Before it is ready nobody has to be answered, and building an engine may take minutes."""
    await stop.wait()
    log.info("stopped before it was ready")
    os._exit(0)


async def run(config: Config, seat: Seat | None = None) -> None:
    """Serves until SIGTERM or SIGINT; a second one exits at once."""
    # What was imported stays, and need not be searched for garbage: that was a tenth of what a
    # refusal costs. It is searched for as often as ever, or gRPC's messages lie about (+200 MB).
    gc.freeze()
    stop = stop_event()
    abandoning = asyncio.create_task(_abandon(stop))
    async with serving(config, seat, abandoning.cancel) as server:
        metrics_port = config.metrics_port if seat else server.http.metrics_port
        ports = server.http.http_port, server.rpc.port, metrics_port
        served = server.plane.repository.served
        print(
            banner(served, config.host, *ports, server.decode_threads, config.workers), flush=True
        )
        if seat:  # the supervisor reads to the end; what else may be printed belongs into the log
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        log.info("ready")
        await stop.wait()
    log.info("stopped")
