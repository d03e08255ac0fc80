"""What can go wrong for a caller: one table, which both protocols and the documentation follow.

Anything else is a bug: logged with its traceback and answered "internal error". The reason is the
error code in JSON and the label in metrics.
"""

import asyncio
import time
from typing import Self


class ServeError(Exception):
    reason, http, grpc = "internal", 500, "INTERNAL"
    meaning = "A bug; the server's log has the traceback."
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
    reason, http, grpc = "invalid_argument", 400, "INVALID_ARGUMENT"
    meaning = "An option is wrong."


class BadImage(ServeError):
    reason, http, grpc = "invalid_image", 400, "INVALID_ARGUMENT"
    meaning = "An accepted format, but damaged, cut off, empty, or of a kind that is not read."


class Unauthenticated(ServeError):
    reason, http, grpc = "unauthenticated", 401, "UNAUTHENTICATED"
    meaning = "The server asks for an API key or a certificate that the request does not have."


class Disabled(ServeError):
    reason, http, grpc = "disabled", 403, "PERMISSION_DENIED"
    meaning = "The operator has not switched this on, or not for pages of other sites."


class Forbidden(ServeError):
    reason, http, grpc = "forbidden", 403, "PERMISSION_DENIED"
    meaning = "The API key is good, and not for this."


class NotFound(ServeError):
    reason, http, grpc = "not_found", 404, "NOT_FOUND"
    meaning = "There is no such model, version or path."


class LengthRequired(ServeError):
    reason, http, grpc = "length_required", 411, "INVALID_ARGUMENT"
    meaning = "The request has neither Content-Length nor chunks: where its body ends is not said."


class TooLarge(ServeError):
    reason, http, grpc = "too_large", 413, "INVALID_ARGUMENT"
    meaning = "Too many bytes or pixels; nothing was decoded."


class UnsupportedImage(ServeError):
    reason, http, grpc = "unsupported_format", 415, "INVALID_ARGUMENT"
    meaning = "The first bytes are those of no accepted format."


class UnsupportedEncoding(ServeError):
    reason, http, grpc = "unsupported_encoding", 415, "INVALID_ARGUMENT"
    meaning = "The body is compressed in a way that is not read here."


class Overloaded(ServeError):
    reason, http, grpc = "overloaded", 429, "RESOURCE_EXHAUSTED"
    meaning = "All places or bytes are taken; try again later."
    triton = "REJECTED"


class RateLimited(ServeError):
    reason, http, grpc = "rate_limited", 429, "RESOURCE_EXHAUSTED"
    meaning = "The API key has asked for more than its rate; try again later."
    triton = "REJECTED"


class EngineFailure(ServeError):
    reason, http, grpc = "engine", 500, "INTERNAL"
    meaning = "The engine failed; the log has the traceback."
    triton = "BACKEND"

    def __init__(self) -> None:
        super().__init__("internal error: the engine failed on this batch")


class NotReady(ServeError):
    reason, http, grpc = "not_ready", 503, "UNAVAILABLE"
    meaning = "The server is starting or stopping."


class Expired(ServeError):
    reason, http, grpc = "expired", 504, "DEADLINE_EXCEEDED"
    meaning = "The deadline passed."
    triton = "REJECTED"

    @classmethod
    def after(cls, start: float) -> Self:
        """`start` is a time of time.monotonic."""
        return cls(f"the deadline passed after {(time.monotonic() - start) * 1000:.0f} ms")


class WouldMiss(ServeError):
    reason, http, grpc = "would_miss_deadline", 504, "DEADLINE_EXCEEDED"
    meaning = "No answer could be ready before the deadline, which is said at once."
    triton = "REJECTED"


ERRORS: tuple[type[ServeError], ...] = (ServeError, *ServeError.__subclasses__())


class Cancelled(ServeError):
    """Counted, and never sent: the caller has hung up."""

    reason, http, grpc, triton = "cancelled", 499, "CANCELLED", "CANCELED"

    def __init__(self, message: str = "the caller hung up") -> None:
        super().__init__(message)


def outcome(error: BaseException) -> ServeError:
    """What a request that ended in any exception is counted and logged as."""
    if isinstance(error, ServeError):
        return error
    return Cancelled() if isinstance(error, asyncio.CancelledError) else ServeError()
