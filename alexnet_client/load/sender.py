"""What the load generator needs of a protocol."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from alexnet_client.classifier_pb2 import ClassifyResponse

# An outcome is one of these, or the server's reason (docs/operations.md), or if it gave none gRPC's
# code in lower case.
OK, LATE, CANCELLED, NOT_SENT = "ok", "late", "cancelled", "not_sent"
REFUSED = ("would_miss_deadline", "overloaded")
_OUTCOMES = {
    "expired": LATE,
    "deadline_exceeded": LATE,
    "resource_exhausted": "overloaded",
    "cancelled": "cancelled_by_server",  # our own cancellations get no reply
}


def outcome_of(reason: str) -> str:
    """`expired`, or `DEADLINE_EXCEEDED` -> `late`."""
    return _OUTCOMES.get(reason.lower(), reason.lower())


@dataclass(frozen=True, slots=True)
class Reply:
    """`ok` with a body that is parsed after the run, or another outcome."""

    outcome: str
    body: bytes = b""


@dataclass(frozen=True)
class Sender:
    """Photos ready to be sent over one protocol."""

    photos: int
    connections: int
    send: Callable[[int, float], Awaitable[Reply]]
    """Takes a photo's index and the timeout in seconds. Raises nothing; if cancelled, it cancels
    the request on the wire."""
    read: Callable[[bytes], ClassifyResponse]
    """Parses a body; fills at least the model's version and the timing."""
