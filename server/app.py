"""The composition root: build, prove, serve, drain, stop. The only module that knows them all."""

import asyncio
import gc
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from alexnet.manifest import BundleError
from server.api.classify_http import ClassifyHttp
from server.api.grpc import GrpcApi
from server.api.http import Listener, application
from server.api.oip.control import RepositoryControl
from server.api.oip.http import OipHttp
from server.api.oip.models import OipModels
from server.api.probes import Probes, scrape
from server.api.web.pages import Pages
from server.banner import banner
from server.config import Config, numbers
from server.engines.choice import Wanted
from server.models.control import Control
from server.models.opener import Opener
from server.models.policy import VersionPolicy
from server.models.repository import Open, Repository
from server.scheduler import cpus
from server.scheduler.batcher import BatchPolicy
from server.scheduler.decoder import Decoder
from server.scheduler.gate import Limits
from server.service import Service, State
from server.signals import stop_event
from server.telemetry.metrics import Metrics
from server.workers import peers
from server.workers.peers import Peers, Seat

log = logging.getLogger(__name__)

MakeOpen = Callable[[Config, BatchPolicy, Decoder, Metrics], Open]
"""What opens a version, so that tests can put another in its place."""


@dataclass(frozen=True)
class Server:
    """Everything that runs, with the ports it really got."""

    service: Service
    metrics: Metrics
    http: Listener
    grpc: GrpcApi
    private: Listener
    """Metrics and probes."""
    decode_threads: int


def registry() -> CollectorRegistry:
    """A registry of our own, with the process's CPU, memory and file descriptors."""
    result = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=result)
    PlatformCollector(registry=result)
    GCCollector(registry=result)
    return result


def open_bundles(config: Config, policy: BatchPolicy, decoder: Decoder, metrics: Metrics) -> Open:
    wanted = Wanted(
        config.engine,
        config.precision,
        numbers(config.devices),
        config.engine_threads or cpus.available(),
        config.max_batch_size,
        cache_folder(config.cache_dir),
    )
    return Opener(wanted, policy, decoder, metrics).open


def build(config: Config, seat: Seat | None, make_open: MakeOpen) -> tuple[Server, Decoder]:
    """All parts, none of which has started yet."""
    metrics = Metrics(registry(), config.request_timeout_ms / 1000)
    decode_threads = config.decode_threads or cpus.available()
    decoder = Decoder(decode_threads, config.max_image_pixels, config.priority_levels)
    policy = BatchPolicy(
        config.max_batch_size,
        numbers(config.preferred_batch_size),
        config.max_queue_delay_microseconds / 1e6,
        config.priority_levels,
    )
    repository = Repository(
        Path(config.model),
        VersionPolicy(config.version_policy, config.version_weights),
        make_open(config, policy, decoder, metrics),
    )
    service = Service(repository, decoder, limits(config), metrics)
    alone = Control(repository, metrics.counts)
    shared = Peers(repository, metrics.counts, seat) if seat else alone
    control = RepositoryControl(OipModels(service), shared, config.repository_control)
    probes = Probes(service).routes()
    public = [
        *ClassifyHttp(service).routes(),
        *OipHttp(service, control).routes(),
        *probes,
        *Pages().routes(),
    ]
    # A worker shares its ports with the others, and has metrics on the socket of its seat.
    private = [*probes, scrape(metrics.registry, plain=seat is not None)]
    private += peers.routes(alone) if seat else []
    server = Server(
        service,
        metrics,
        Listener(
            application(public, config.max_request_bytes), config.http_port, shared=seat is not None
        ),
        GrpcApi(service, control, config.host, config.grpc_port, shared=seat is not None),
        Listener(application(private), config.metrics_port, socket=seat.socket if seat else None),
        decode_threads,
    )
    return server, decoder


@asynccontextmanager
async def serving(
    config: Config,
    seat: Seat | None = None,
    listening: Callable[[], object] = lambda: None,
    make_open: MakeOpen = open_bundles,
) -> AsyncIterator[Server]:
    """A server that is ready inside the block and has answered every request after it; `listening`
    is called before a client can connect.

    Raises BundleError for a model that cannot be served, OSError for a port that is taken.
    """
    server, decoder = build(config, seat, make_open)
    repository, polling = server.service.repository, None
    try:
        await _load(repository, await peers.served_by_others(seat) if seat else None)
        if config.poll_s:
            polling = asyncio.create_task(repository.poll(config.poll_s), name="poll")
        listening()
        await server.grpc.start()
        await server.private.start(config.host)
        await server.http.start(config.host)
        if seat:
            await _catch_up(repository, seat)
        yield server
        await _drain(server, config)
    finally:
        if polling:
            polling.cancel()
        await server.grpc.stop(0)
        await server.http.stop()
        await server.private.stop()  # the last: metrics can be read to the end
        await repository.close()
        await asyncio.to_thread(decoder.close)


async def _catch_up(repository: Repository, seat: Seat) -> None:
    """Versions may have been exchanged before the others could reach this one."""
    others = await peers.served_by_others(seat)
    try:
        if others is not None:
            await _load(repository, others)
    except (BundleError, OSError) as error:
        log.error("what the others serve is not served here: %s", error)


async def _load(repository: Repository, others: list[str] | None) -> None:
    """What the other workers serve, if there are any: it may be nothing, by request."""
    if others != []:
        await repository.load(others)
        return
    try:
        if not repository.name:
            await repository.load()  # the name of the model stands in its bundles
    except BundleError as error:
        log.warning("nothing is served here, as was asked for; and nothing could be: %s", error)
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


def cache_folder(name: str) -> Path | None:
    try:
        return Path(name).expanduser() if name else None
    except RuntimeError:
        log.warning("%s is nowhere, as this user has no home: nothing is kept there", name)
        return None


async def _drain(server: Server, config: Config) -> None:
    """Not ready at once, so that no new requests are sent here; then all admitted are answered."""
    server.service.state = State.LEAVING
    await server.grpc.refresh_health()
    await asyncio.sleep(config.drain_delay_s)
    if await server.service.drain(config.drain_timeout_s):
        log.info("everything accepted was answered")
    else:
        log.warning("gave up on requests that took longer than the drain timeout")
    # The answers have been made; let the sockets carry them away.
    await server.grpc.stop(1.0)


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
    stop = stop_event()
    exiting = asyncio.create_task(_exit_on(stop))
    async with serving(config, seat, exiting.cancel) as server:
        metrics_port = config.metrics_port if seat else server.private.port
        ports = server.http.port, server.grpc.port, metrics_port
        served = server.service.repository.served
        print(
            banner(served, config.host, *ports, server.decode_threads, config.workers), flush=True
        )
        if seat:  # the supervisor reads to the end; what else may be printed belongs into the log
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        log.info("ready")
        await stop.wait()
    log.info("stopped")


def run_or_exit(server: Coroutine[None, None, None]) -> None:
    """Runs it to its end, or exits with a sentence that says why it cannot serve."""
    try:
        asyncio.run(server)
    except (BundleError, OSError) as error:
        sys.exit(f"alexnet-server: {error}")
