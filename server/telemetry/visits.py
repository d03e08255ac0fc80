"""A visit: a request as the access log and the traces see it, from its arrival to its reply,
admitted or not."""

import logging
import re
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Protocol

from server.errors import ServeError
from server.telemetry import logs
from server.telemetry.counts import Timing
from server.telemetry.traces import TRACEPARENT, Attributes, Trace, Traces, sampled

access = logging.getLogger("access")
access.setLevel(logging.INFO)  # --access-log says what is in it, whatever --log-level says

Refused = Callable[[str, ServeError], None]
"""Counts a request that was refused before the service saw it: its face, and why."""

NOTHING: Mapping[str, Any] = {}
PROBES = re.compile(r"/(livez|readyz|metrics|v2/health/|grpc\.health\.)")
"""Asked all the time: not traced."""
LONGEST = 200
"""Letters of a path in the log."""
STAGES = ("upload", "decode_queue", "decode", "batch_queue", "infer")


class Seen(Protocol):
    """What is known of a photo: alexnet/preprocess.py: Photo, or alexnet/header.py: Header."""

    @property
    def format(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...


class Visit:
    """`end` is to be called once, on the task that it arrived on."""

    def __init__(self, visits: "Visits", face: str, method: str, path: str = "", peer: str = ""):
        self._visits, self.face, self.method, self.path = visits, face, method, path
        self.peer = peer
        self.start = time.monotonic()
        self.trace: Trace | None = None
        """None where it is not recorded."""
        self.trace_id = ""
        """Ours, or that of a caller which records it; empty where neither does."""
        self.streams = False
        """It is a call that goes on, and its messages are visits."""
        self.key = ""
        """The name of the API key that it came with."""
        self.version = ""
        self.bytes = 0
        """Of the body, or of the photos in a message."""
        self.error: ServeError | None = None
        """Without a traceback, which would hold the photo."""
        self.counted = False
        """The metrics know of its end."""
        self.photos: list[dict[str, Any]] = []
        self.timing: Timing | None = None
        """Of the photo that took longest."""

    def photo(
        self, seen: Seen | None, size: int, outcome: Timing | ServeError, crop: bool = False
    ) -> None:
        """One of its photos has ended, or a `crop` of one that is known."""
        photo: dict[str, Any] = {"bytes": size} if size else {}
        if seen:
            photo |= {"format": seen.format, "width": seen.width, "height": seen.height}
        if isinstance(outcome, ServeError):
            photo["reason"] = outcome.reason
        elif self.timing is None or outcome.total > self.timing.total:
            self.timing = outcome
        if not crop:
            self.photos.append(photo)

    def message(self) -> "Visit":
        """Of one message of a stream, which is a request of its own."""
        visit = Visit(self._visits, self.face, self.method, self.path, self.peer)
        visit.key, visit.trace_id = self.key, self.trace_id
        visit.trace = self.trace and self.trace.message(self.method.strip("/"))
        current.set(visit)
        return visit

    def close(self, status: str) -> None:
        """In place of `end`: of a stream whose messages say the rest."""
        if self.trace:
            self.trace.end(self._attributes(status), status, None)

    def end(self, status: str, error: ServeError | None = None) -> None:
        """`status` is HTTP's number or gRPC's name."""
        error = error or self.error
        self._visits.ended(self, status, error)
        if self.trace:
            self.trace.end(self._attributes(status), status, error)

    def _attributes(self, status: str) -> Attributes:
        """In the words of OpenTelemetry where it has some."""
        coded: Attributes = {"rpc.response.status_code": status}
        if self.path:
            coded = {"http.response.status_code": int(status)}
        return coded | {
            "client.address": self.peer,
            "alexnet.face": self.face,
            "alexnet.request_id": logs.request_id.get(),
            "alexnet.version": self.version,
            "alexnet.photos": len(self.photos),
        }

    def fields(self, status: str, error: ServeError | None) -> dict[str, Any]:
        """What a line of the access log says, beside the time and the id of the request."""
        size = self.bytes or sum(photo.get("bytes", 0) for photo in self.photos)
        timing = self.timing
        found = {
            "face": self.face,
            "peer": self.peer,
            "key": self.key,
            "method": self.method,
            "path": self.path,
            "status": status,
            "reason": error.reason if error else "ok",
            "why": str(error) if error else "",
            "ms": round((time.monotonic() - self.start) * 1000, 2),
            "bytes": size,
            "version": self.version,
            "photos": self.photos,
            "batch_size": timing and timing.batch_size,
            "cached": (timing and timing.cached) or None,
            "trace_id": self.trace_id,
            "stages_ms": timing and {s: round(getattr(timing, s) * 1000, 2) for s in STAGES},
        }
        return {name: value for name, value in found.items() if value not in ("", None, [])}


current: ContextVar[Visit | None] = ContextVar("visit", default=None)
"""The visit that the running task belongs to."""


class Visits:
    """Where they begin and end; `log` is off, errors or all."""

    def __init__(
        self,
        refused: Refused = lambda face, error: None,
        log: str = "off",
        traces: Traces | None = None,
    ):
        self._refused, self._log, self._traces = refused, log, traces

    def begin(
        self,
        face: str,
        method: str,
        path: str = "",
        peer: str = "",
        headers: Mapping[str, Any] = NOTHING,
        route: str = "",
    ) -> Visit:
        """`headers` may name a trace; `route` is the path without what differs."""
        visit = Visit(self, face, printable(method), printable(path), peer)
        current.set(visit)
        if TRACEPARENT in headers:
            visit.trace_id = sampled(str(headers[TRACEPARENT]))
        if self._traces and not PROBES.match(path or method):
            name, known = visit.method.strip("/"), _called(visit, route)
            if route:
                name = f"{name} {route}"
            visit.trace = self._traces.begin(name, visit.start, known, headers)
            visit.trace_id = visit.trace.id if visit.trace else ""
        return visit

    def ended(self, visit: Visit, status: str, error: ServeError | None) -> None:
        if error and not visit.counted:
            self._refused(visit.face, error)
        if self._log == "off":
            return
        if self._log == "all" or error or any("reason" in photo for photo in visit.photos):
            what = f"{visit.method} {visit.path}".rstrip()
            access.info("%s %s", what, status, extra={"fields": visit.fields(status, error)})


def _called(visit: Visit, route: str) -> Attributes:
    """By which a sampler may decide what is traced."""
    if not visit.path:
        return {"rpc.system.name": "grpc", "rpc.method": visit.method.strip("/")}
    called: Attributes = {"http.request.method": visit.method, "url.path": visit.path}
    return called | {"http.route": route} if route else called


def printable(text: str) -> str:
    """What may stand in a line: it comes from a stranger."""
    return re.sub(r"[^!-~]", "?", text[:LONGEST])
