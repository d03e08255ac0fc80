"""grpc.health.v1: what the readiness probe says, at the moment it is asked; watchers hear every
change."""

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"]
LOOK_S = 0.1
"""An engine that hangs sends no event: there is one look for all watchers, again and again."""


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc] # grpc ships no types
    """The statuses of `services`, and of the whole, whose name is empty."""

    def __init__(self, ready: Callable[[], bool], services: Collection[str]):
        self._ready, self._names = ready, {"", *services}
        self._changed = asyncio.Event()
        self._seen = False
        """What watchers have been told, or are about to be."""
        self._watchers = 0
        self._next: asyncio.TimerHandle | None = None

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the proto's name
        if request.service not in self._names:
            known = ", ".join(sorted(self._names - {""}))
            await context.abort(grpc.StatusCode.NOT_FOUND, f"the services are {known}")
        status = self._status(request.service, self._ready())
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802 - the proto's name
        last = None
        with self._watching():
            while True:
                self.refresh()
                status, changed = self._status(request.service, self._seen), self._changed
                if status != last:
                    await context.write(health_pb2.HealthCheckResponse(status=status))
                    last = status
                    continue  # it may have changed meanwhile
                await changed.wait()

    def refresh(self) -> None:
        """Looks now, and wakes all watchers where it has changed."""
        ready = self._ready()
        if ready != self._seen:
            self._seen = ready
            self._changed.set()
            self._changed = asyncio.Event()

    @contextmanager
    def _watching(self) -> Iterator[None]:
        self._watchers += 1
        try:
            if self._watchers == 1:
                self._look()
            yield
        finally:
            self._watchers -= 1
            if not self._watchers and self._next:
                self._next.cancel()

    def _look(self) -> None:
        """Now, and again for as long as there are watchers."""
        self._next = asyncio.get_running_loop().call_later(LOOK_S, self._look)
        self.refresh()

    def _status(self, service: str, ready: bool) -> Any:
        status = health_pb2.HealthCheckResponse
        if service not in self._names:
            return status.SERVICE_UNKNOWN
        return status.SERVING if ready else status.NOT_SERVING
