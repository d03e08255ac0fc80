"""The gRPC server on its port: its services, what runs around every call, health and reflection."""

import logging
from pathlib import Path

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2

from protos import classifier_pb2, oip_pb2
from server.api import reflection
from server.api.arrivals import Arrivals
from server.api.calls import handlers
from server.api.classify_grpc import SERVICE, Classifier
from server.api.health import SERVICE as HEALTH
from server.api.health import Health
from server.api.lifetime import Lifetime
from server.api.oip import grpc as oip
from server.api.oip.control import RepositoryControl
from server.certificates import Certificates
from server.door import Door
from server.ports import cleared, numeric
from server.scheduler import cpus
from server.service import Service
from server.telemetry import logs
from server.telemetry.visits import Visits

MESSAGE_OVERHEAD = 64 << 10
"""A photo may fill the whole message; the rest of a request is a few hundred bytes."""
CONNECTION = (
    # A client that does not even acknowledge the settings makes gRPC keep what it sends it.
    ("grpc.http2.settings_timeout", 500),  # milliseconds
    # After so many pings gRPC hangs up, but what came with them it still reads, and each ping then
    # copies a text that the one before made longer: 200 kB of pings cost seconds. Without a limit
    # it answers them, and stops reading where its answers are not read.
    ("grpc.http2.max_ping_strikes", 0),
    # What is sent before it is read for. gRPC's own guess of the line grew to 20 MB a stream on a
    # busy machine, and none of that is in the account of memory.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1 << 20),
)
READERS = "event_engine", "lifeguard"
"""gRPC's own threads: a stranger can keep them busy with what is no call. The second starts more
of the first."""
HEALTH_WATCHERS = 512
"""Streams that stay open and hold no photo; as many more of reflection. A client that checks health
by itself has one for each connection, and sends nothing where it is refused: so many were possible
when they shared the calls of photos."""

logs.quieten(
    logging.getLogger("grpc._cython.cygrpc"),
    DecodeError,
    "a gRPC message that cannot be read was answered UNKNOWN",
)


def _credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """gRPC asks before every handshake for what is shown now."""

    def configuration() -> grpc.ServerCertificateConfiguration:
        shown = certificates.shown
        return grpc.ssl_server_certificate_configuration(
            [(shown.key, shown.certificate)], shown.client_ca
        )

    return grpc.dynamic_ssl_server_credentials(configuration(), configuration, certificates.mutual)


class GrpcApi:
    def __init__(
        self,
        service: Service,
        control: RepositoryControl,
        host: str,
        port: int,
        visits: Visits,
        door: Door,
        lifetime: Lifetime,
        also: str = "",
        shared: bool = True,
    ):
        """A `shared` port has several processes listening, or one that holds it (ports.py); the
        socket that listens `also` has no TLS."""
        limits = service.limits
        most = 2 * limits.max_queue_size
        self._server = grpc.aio.server(
            interceptors=(Arrivals(visits, most, HEALTH_WATCHERS, door),),
            options=(
                ("grpc.max_receive_message_length", limits.max_request_bytes + MESSAGE_OVERHEAD),
                # Two servers on one port would silently share its calls, unless they are workers.
                ("grpc.so_reuseport", int(shared)),
                *CONNECTION,
                *lifetime.grpc_options(),
            ),
            # The last resort: what it refuses is in no log.
            maximum_concurrent_rpcs=2 * (most + 2 * HEALTH_WATCHERS),
        )
        message_s = limits.request_timeout_s
        classifier, inference = Classifier(service), oip.OpenInference(service, control)
        ours = handlers(classifier, SERVICE, classifier_pb2, message_s, unread={"Classify"})
        theirs = handlers(inference, oip.SERVICE, oip_pb2, message_s)
        services = SERVICE.full_name, oip.SERVICE.full_name
        self._health = Health(lambda: service.ready, services)
        # Not as grpc_health adds them: a call whose message does not come would be open for ever.
        asked = handlers(self._health, HEALTH, health_pb2, message_s)
        self._server.add_generic_rpc_handlers((ours, theirs, asked))
        reflection.enable((*services, health.SERVICE_NAME), self._server)
        address = numeric(host)
        self._address = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        self.port, self._certificates = port, door.certificates
        self._also = Path(also) if also else None

    async def start(self) -> None:
        """Raises OSError when the port is taken."""
        try:
            if self._certificates:
                credentials = _credentials(self._certificates)
                self.port = self._server.add_secure_port(self._address, credentials)
            else:
                self.port = self._server.add_insecure_port(self._address)
        except RuntimeError:
            reason = "is it taken, or no address of this machine?"
            raise OSError(f"cannot listen on {self._address} for gRPC: {reason}") from None
        if self._also:
            cleared(self._also)
            try:
                self._server.add_insecure_port(f"unix:{self._also.absolute()}")
            except RuntimeError:
                raise OSError(f"cannot listen at {self._also} for gRPC") from None
            self._also.chmod(0o660)
        await self._server.start()
        cpus.threads_yield(READERS, cpus.DECODER)

    def refresh_health(self) -> None:
        """May be called when readiness has changed: watchers then hear it at once."""
        self._health.refresh()

    async def stop(self, grace_s: float) -> None:
        await self._server.stop(grace_s)
