"""The composition root: build, prove, serve, drain, stop. The only module that knows them all."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from alexnet import golden_photos
from alexnet.manifest import BundleError
from alexnet.starter import found
from server.api.classify_http import ClassifyHttp
from server.api.grpc import GrpcApi
from server.api.http import application
from server.api.huggingface import HuggingFace
from server.api.inside import InsideHttp
from server.api.lifetime import Lifetime
from server.api.listener import Listener
from server.api.oip.control import RepositoryControl
from server.api.oip.http import OipHttp
from server.api.oip.models import OipModels
from server.api.probes import Probes, scrape
from server.api.tensorflow import TensorFlow
from server.api.web.pages import Pages
from server.config import Config, host_names, numbers, origins
from server.door import Door
from server.engines.choice import Wanted
from server.models.control import Control
from server.models.opener import Opener
from server.models.policy import VersionPolicy
from server.models.repository import Open, Repository
from server.ports import reserved
from server.scheduler import cpus
from server.scheduler.batcher import BatchPolicy
from server.scheduler.cache import AnswerCache
from server.scheduler.decoder import Decoder
from server.scheduler.gate import Limits
from server.scheduler.lane import Lane
from server.service import Service, State
from server.telemetry import traces
from server.telemetry.machine import Machine
from server.telemetry.metrics import Metrics, watch_certificate
from server.telemetry.traces import Traces
from server.telemetry.visits import Visits
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
    door: Door
    decode_threads: int


def registry() -> CollectorRegistry:
    """A registry of our own, with the process's CPU, memory and file descriptors."""
    result = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=result)
    PlatformCollector(registry=result)
    GCCollector(registry=result)
    result.register(Machine())
    return result


def open_door(config: Config, shared: Path | None) -> Door:
    """`shared` is where workers count together. Raises OSError."""
    tls = config.tls_certificate, config.tls_key, config.tls_client_ca
    allowed = origins(config.cors_origin), host_names(config.allowed_hosts)
    return Door.opened(*tls, config.keys_file, *allowed, shared)


def open_bundles(config: Config, policy: BatchPolicy, decoder: Decoder, metrics: Metrics) -> Open:
    wanted = Wanted(
        config.engine,
        config.precision,
        numbers(config.devices),
        config.engine_threads or cpus.available(),
        config.max_batch_size,
        cache_folder(config.cache_dir),
    )
    return Opener(wanted, policy, decoder, metrics, config.model_name).open


def build(
    config: Config, seat: Seat | None, make_open: MakeOpen, traced: Traces | None = None
) -> tuple[Server, Decoder]:
    """All parts, none of which has started yet. Raises OSError for files that cannot be used."""
    door = open_door(config, seat.folder if seat else None)
    metrics = Metrics(registry(), config.request_timeout_ms / 1000)
    if door.certificates and not seat:  # of workers the supervisor tells it
        watch_certificate(metrics.registry, door.certificates.days_left)
    decode_threads = config.decode_threads or cpus.available()
    room, levels = config.max_photo_bytes, config.priority_levels
    most = room - room // 8
    lane = Lane(seat.folder / "large.lock", config.workers * most) if seat else None
    decoder = Decoder(decode_threads, config.max_image_pixels, levels, room, lane)
    policy = BatchPolicy(
        config.max_batch_size,
        numbers(config.preferred_batch_size),
        config.max_queue_delay_microseconds / 1e6,
        config.priority_levels,
    )
    repository = Repository(
        found(Path(config.model)),
        VersionPolicy(config.version_policy, config.version_weights),
        make_open(config, policy, decoder, metrics),
    )
    cache = AnswerCache(config.cache_bytes, metrics) if config.cache_bytes else None
    service = Service(repository, decoder, limits(config), metrics, cache)
    alone = Control(repository, metrics.counts)
    shared = Peers(repository, metrics.counts, seat) if seat else alone
    control = RepositoryControl(OipModels(service), shared, config.repository_control)
    probes = Probes(service).routes()
    public = [
        *ClassifyHttp(service).routes(),
        *InsideHttp(service, shared).routes(),
        *HuggingFace(service).routes(),
        *OipHttp(service, control).routes(),
        *TensorFlow(control.models).routes(),
        *probes,
        *Pages(config.max_request_bytes).routes(),
    ]
    lifetime = Lifetime(
        config.http_keepalive_s,
        config.max_connection_age_s,
        max(config.drain_timeout_s, config.request_timeout_ms / 1000),
        lambda: service.state is not State.SERVING,
    )
    seen = Visits(metrics.request_failed, config.access_log, traced)
    # Every port is held from before the model is loaded (`serving`), by sharing it. A worker shares
    # its own with the others, too, and has metrics on the socket of its seat.
    private = [*probes, scrape(metrics.registry, plain=seat is not None)]
    private += peers.routes(alone, seat, partial(reload, door, repository)) if seat else []
    inner = door.without_keys()
    grpc = GrpcApi(
        service, control, config.host, config.grpc_port, seen, door, lifetime, config.grpc_socket
    )
    server = Server(
        service,
        metrics,
        Listener(
            application(public, config.max_request_bytes, seen, door, lifetime),
            config.http_port,
            shared=True,
            also=config.http_socket,
            certificates=door.certificates,
        ),
        grpc,
        Listener(
            # Workers among themselves have no lock, and no log.
            application(private)
            if seat
            else application(private, visits=seen, door=inner, lifetime=lifetime),
            config.metrics_port,
            shared=True,
            private=seat.socket if seat else None,
            certificates=door.certificates,
        ),
        door,
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

    Raises BundleError for a model that cannot be served, OSError for a port that is taken, which
    is noticed before the model is loaded, and PixelsChanged for decoders that read photos otherwise
    than those that it was measured with.
    """
    ports = config.http_port, config.grpc_port, config.metrics_port
    with nullcontext(ports) if seat else reserved(config.host, *ports) as held:
        http, grpc, metrics = held
        config = replace(config, http_port=http, grpc_port=grpc, metrics_port=metrics)
        async with _serving(config, seat, listening, make_open) as server:
            yield server


@asynccontextmanager
async def _serving(
    config: Config, seat: Seat | None, listening: Callable[[], object], make_open: MakeOpen
) -> AsyncIterator[Server]:
    await asyncio.to_thread(golden_photos.check)
    traced = traces.opened(os.environ)
    server, decoder = build(config, seat, make_open, traced)
    repository, watching = server.service.repository, [asyncio.create_task(server.door.watch())]
    try:
        await _load(repository, await peers.served_by_others(seat) if seat else None)
        if config.poll_s:
            watching.append(asyncio.create_task(repository.poll(config.poll_s), name="poll"))
        listening()
        await server.grpc.start()
        await server.private.start(config.host)
        await server.http.start(config.host)
        if seat:
            await _catch_up(repository, seat)
        yield server
        await _drain(server, config)
    finally:
        for task in watching:
            task.cancel()
        await server.grpc.stop(0)
        await server.http.stop()
        await server.private.stop()  # the last: metrics can be read to the end
        await repository.close()
        await asyncio.to_thread(decoder.close, config.drain_timeout_s)
        if traced:
            await asyncio.to_thread(traced.close)


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


async def reload(door: Door, repository: Repository) -> None:
    """What may change without a restart, and has. What cannot be used stays as it was."""
    await door.refresh(anyway=True)
    try:
        await repository.reload()
    except (BundleError, OSError) as error:
        log.error("the versions stay as they were: %s", error)


async def _drain(server: Server, config: Config) -> None:
    """Not ready at once, so that no new requests are sent here; then all admitted are answered."""
    server.service.state = State.LEAVING
    server.grpc.refresh_health()
    await asyncio.sleep(config.drain_delay_s)
    stopping = asyncio.create_task(server.grpc.stop(config.drain_timeout_s))  # GOAWAY, at once
    if await server.service.drain(config.drain_timeout_s):
        log.info("everything accepted was answered")
    else:
        log.warning("gave up on requests that took longer than the drain timeout")
    # The answers have been made; let the sockets carry them away.
    await asyncio.gather(server.grpc.stop(1.0), stopping)
