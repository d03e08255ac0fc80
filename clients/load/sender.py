"""What the load generator asks of a protocol."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from protos.classifier_pb2 import ClassifyResponse

# An outcome is one of these, or the server's reason (docs/operations.md), or where it gave none
# gRPC's code in lower case.
OK, LATE, CANCELLED, NOT_SENT = "ok", "late", "cancelled", "not_sent"
REFUSED = ("would_miss_deadline", "overloaded")
_OUTCOMES = {
    "expired": LATE,
    "deadline_exceeded": LATE,
    "resource_exhausted": "overloaded",
    "cancelled": "cancelled_by_server",  # what we cancel ourselves comes back as no reply
}


def outcome(reason: str) -> str:
    """`expired`, or `DEADLINE_EXCEEDED` -> `late`."""
    return _OUTCOMES.get(reason.lower(), reason.lower())


@dataclass(frozen=True, slots=True)
class Reply:
    """`ok`, with a body that is read after the run, or why not."""

    outcome: str
    body: bytes = b""


@dataclass(frozen=True)
class Sender:
    """Photos that are ready to be sent."""

    photos: int
    connections: int
    send: Callable[[int, float], Awaitable[Reply]]
    """A photo's position and its timeout in seconds. Raises nothing; cancelled, it cancels the
    request on the wire."""
    read: Callable[[bytes], ClassifyResponse]
    """At least the model's version and the timing."""
