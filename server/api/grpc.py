"""The gRPC face: the server on its port, its services, health and reflection."""

import logging
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from protos import classifier_pb2, oip_pb2
from server.api.classify_grpc import SERVICE, Classifier
from server.api.oip import grpc as oip_rpc
from server.api.oip.models import Models
from server.api.parsing import handlers
from server.service import DataPlane
from server.telemetry import logs
from server.workers.peers import Seat, among

# A photo may fill the whole message; the rest of a request is a few hundred bytes.
MESSAGE_OVERHEAD = 64 << 10
HEALTH_WATCHERS = 64  # streams that stay open and hold no photo

logs.calm(
    logging.getLogger("grpc._cython.cygrpc"),
    DecodeError,
    "a gRPC message that cannot be read was answered UNKNOWN",
)


class _Health(health.aio.HealthServicer):  # type: ignore[misc] # grpc ships no types
    """grpc.health.v1 that says what the readiness probe says, at the moment it is asked."""

    def __init__(self, plane: DataPlane):
        super().__init__()
        self._plane = plane

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the proto's name
        await self.refresh()
        return await super().Check(request, context)

    async def refresh(self) -> None:
        """Tells the watchers too."""
        status = health_pb2.HealthCheckResponse
        value = status.SERVING if self._plane.ready else status.NOT_SERVING
        for name in ("", SERVICE.full_name, oip_rpc.SERVICE.full_name):
            await self.set(name, value)


class RpcFace:
    """The gRPC server on its port, with grpc.health.v1 and reflection."""

    def __init__(
        self,
        plane: DataPlane,
        host: str,
        port: int,
        repository_control: str = "off",
        seat: Seat | None = None,
    ):
        limits, everyone = plane.limits, among(Models(plane), seat)
        self._server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", limits.max_request_bytes + MESSAGE_OVERHEAD),
                # Two servers on one port share its calls: without a word, were they no workers.
                ("grpc.so_reuseport", int(seat is not None)),
            ),
            # Photos are in memory before the plane can refuse them: this bounds how many.
            maximum_concurrent_rpcs=2 * limits.max_queue_size + HEALTH_WATCHERS,
        )
        # Who has no chance is told before his photo is read.
        ours = handlers(Classifier(plane), SERVICE, classifier_pb2, unread={"Classify"})
        oip = oip_rpc.OpenInference(plane, everyone, repository_control)
        self._server.add_generic_rpc_handlers((ours, handlers(oip, oip_rpc.SERVICE, oip_pb2)))
        self._health = _Health(plane)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        services = SERVICE.full_name, oip_rpc.SERVICE.full_name
        names = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.port = port

    async def start(self) -> None:
        """Raises OSError when the port is taken."""
        try:
            self.port = self._server.add_insecure_port(self._address)
        except RuntimeError:
            reason = "is it taken, or no address of this machine?"
            raise OSError(f"cannot listen on {self._address} for gRPC: {reason}") from None
        await self._server.start()
        await self.refresh_health()

    async def refresh_health(self) -> None:
        """To be called when readiness has changed, for those who watch."""
        await self._health.refresh()

    async def stop(self, grace_s: float) -> None:
        await self._server.stop(grace_s)
