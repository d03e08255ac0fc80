"""The gRPC server on its port: its services, what runs around every call, health and reflection."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from protos import classifier_pb2, oip_pb2
from server.api import access
from server.api.calls import abort, handlers
from server.api.classify_grpc import SERVICE, Classifier
from server.api.oip import grpc as oip
from server.api.oip.control import RepositoryControl
from server.errors import ServeError
from server.service import Service
from server.telemetry import logs

MESSAGE_OVERHEAD = 64 << 10
"""A photo may fill the whole message; the rest of a request is a few hundred bytes."""
HEALTH_WATCHERS = 64
"""Streams that stay open and hold no photo."""

logs.quieten(
    logging.getLogger("grpc._cython.cygrpc"),
    DecodeError,
    "a gRPC message that cannot be read was answered UNKNOWN",
)


class Access(grpc.aio.ServerInterceptor):
    """Calls api/access.py before the handler runs."""

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> Any:
        try:
            access.check(dict(details.invocation_metadata))
        except ServeError as error:
            refusal = error.without_traceback()

            async def refuse(request: Any, context: Any) -> None:
                await abort(context, refusal)

            return grpc.stream_stream_rpc_method_handler(refuse)
        return await continuation(details)


INTERCEPTORS = (Access(),)
"""Outermost first; what holds for HTTP too belongs into api/access.py."""


class _Health(health.aio.HealthServicer):  # type: ignore[misc] # grpc ships no types
    """grpc.health.v1 that says what the readiness probe says, at the moment it is asked."""

    def __init__(self, service: Service):
        super().__init__()
        self._service = service

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the proto's name
        await self.refresh()
        return await super().Check(request, context)

    async def refresh(self) -> None:
        """Tells the watchers too."""
        status = health_pb2.HealthCheckResponse
        value = status.SERVING if self._service.ready else status.NOT_SERVING
        for name in ("", SERVICE.full_name, oip.SERVICE.full_name):
            await self.set(name, value)


class GrpcApi:
    def __init__(
        self, service: Service, control: RepositoryControl, host: str, port: int, shared: bool
    ):
        """A `shared` port has several processes listening."""
        limits = service.limits
        self._server = grpc.aio.server(
            interceptors=INTERCEPTORS,
            options=(
                ("grpc.max_receive_message_length", limits.max_request_bytes + MESSAGE_OVERHEAD),
                # Two servers on one port would silently share its calls, unless they are workers.
                ("grpc.so_reuseport", int(shared)),
            ),
            # Photos are in memory before the service can refuse them: this bounds how many.
            maximum_concurrent_rpcs=2 * limits.max_queue_size + HEALTH_WATCHERS,
        )
        ours = handlers(Classifier(service), SERVICE, classifier_pb2, unread={"Classify"})
        theirs = handlers(oip.OpenInference(service, control), oip.SERVICE, oip_pb2)
        self._server.add_generic_rpc_handlers((ours, theirs))
        self._health = _Health(service)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        services = SERVICE.full_name, oip.SERVICE.full_name
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
        """To be called when readiness has changed, for the clients that watch it."""
        await self._health.refresh()

    async def stop(self, grace_s: float) -> None:
        await self._server.stop(grace_s)
