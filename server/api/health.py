"""grpc.health.v1: what the readiness probe says, at the moment it is asked; watchers hear every
change."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

LOOK_S = 0.1
"""An engine that hangs sends no event, so watchers look."""


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc] # grpc ships no types
    """The statuses of `services`, and of the whole, whose name is empty."""

    def __init__(self, ready: Callable[[], bool], services: Collection[str]):
        self._ready, self._names = ready, {"", *services}
        self._changed = asyncio.Event()

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the proto's name
        if request.service not in self._names:
            known = ", ".join(sorted(self._names - {""}))
            await context.abort(grpc.StatusCode.NOT_FOUND, f"the services are {known}")
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802 - the proto's name
        last = None
        while True:
            status, changed = self._status(request.service), self._changed
            if status != last:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                last = status
                continue  # it may have changed meanwhile
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), LOOK_S)

    def refresh(self) -> None:
        """Has watchers look at once."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _status(self, service: str) -> Any:
        status = health_pb2.HealthCheckResponse
        if service not in self._names:
            return status.SERVICE_UNKNOWN
        return status.SERVING if self._ready() else status.NOT_SERVING
