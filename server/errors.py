"""What can go wrong for a caller: one table, which both protocols and the documentation follow.

Anything else is a bug: logged with its traceback and answered "internal error". The reason is the
error code in JSON and the label in metrics.
"""

import time
from typing import Self


class ServeError(Exception):
    """A bug: the log has the traceback."""

    reason, http, grpc = "internal", 500, "INTERNAL"
    triton = "OTHER"
    """The reason in Triton's nv_inference_request_failure."""

    def __init__(self, message: str = "internal error", retry_after_s: float | None = None):
        """`retry_after_s`: how long to wait before another try; None when a retry is of no use."""
        super().__init__(message)
        self.retry_after_s = retry_after_s

    def without_traceback(self) -> Self:
        """The frames of a traceback hold the photo."""
        self.__traceback__ = self.__context__ = None
        return self


class BadRequest(ServeError):
    """An option is wrong."""

    reason, http, grpc = "invalid_argument", 400, "INVALID_ARGUMENT"


class BadImage(ServeError):
    """The bytes cannot be decoded."""

    reason, http, grpc = "invalid_image", 400, "INVALID_ARGUMENT"


class Disabled(ServeError):
    """The operator has not switched this on."""

    reason, http, grpc = "disabled", 403, "PERMISSION_DENIED"


class NotFound(ServeError):
    """There is no such model, version or path."""

    reason, http, grpc = "not_found", 404, "NOT_FOUND"


class TooLarge(ServeError):
    """Too many bytes or pixels; nothing was decoded."""

    reason, http, grpc = "too_large", 413, "INVALID_ARGUMENT"


class UnsupportedImage(ServeError):
    """Not an accepted image format."""

    reason, http, grpc = "unsupported_format", 415, "INVALID_ARGUMENT"


class Overloaded(ServeError):
    """All places or bytes are taken; try again later."""

    reason, http, grpc = "overloaded", 429, "RESOURCE_EXHAUSTED"
    triton = "REJECTED"


class EngineFailure(ServeError):
    """The engine failed; the log has the traceback."""

    reason, http, grpc = "engine", 500, "INTERNAL"
    triton = "BACKEND"

    def __init__(self) -> None:
        super().__init__("internal error: the engine failed on this batch")


class NotReady(ServeError):
    """The server is starting or stopping."""

    reason, http, grpc = "not_ready", 503, "UNAVAILABLE"


class Expired(ServeError):
    """The deadline passed."""

    reason, http, grpc = "expired", 504, "DEADLINE_EXCEEDED"
    triton = "REJECTED"

    @classmethod
    def after(cls, start: float) -> Self:
        """`start` is a time of time.monotonic."""
        return cls(f"the deadline passed after {(time.monotonic() - start) * 1000:.0f} ms")


class WouldMiss(ServeError):
    """No answer could be ready before the deadline, which is said at once."""

    reason, http, grpc = "would_miss_deadline", 504, "DEADLINE_EXCEEDED"
    triton = "REJECTED"


ERRORS = (ServeError, *ServeError.__subclasses__())


class Cancelled(ServeError):
    """The caller has hung up: counted, and never sent."""

    reason, triton = "cancelled", "CANCELED"
