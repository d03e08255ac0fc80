"""What can go wrong for a caller.

    ServeError            carries a message for the caller, and a stable reason
    ├── BadRequest        an option is wrong                               caller
    ├── BadImage          the bytes are no photo that can be decoded       caller
    ├── UnsupportedImage  ... in no accepted format                        caller
    ├── TooLarge          too many bytes or pixels                         caller
    ├── NotFound          no such model or path                            caller
    ├── Expired           the deadline passed                              caller's deadline
    ├── WouldMiss         no answer could be ready in time: said at once   load; retry later
    ├── Overloaded        the queue is full: refused at once               load; retry later
    ├── Disabled          the operator has not switched this on            operator
    ├── NotReady          starting or stopping                             lifecycle; retry
    └── EngineFailure     the engine failed; the log has the traceback     us

Anything else is a bug: logged with its traceback and answered "internal error". The reason is the
error code in JSON and the label in metrics; each face maps it to its protocol in one table.
"""

import time
from typing import Self


class ServeError(Exception):
    reason = "internal"
    retry_after_s: float | None = None
    """Asking again is worth while after so long; None when it is not."""

    def bare(self) -> Self:
        """Without the frames that it came through: they hold the photo."""
        self.__traceback__ = self.__context__ = None
        return self


class BadRequest(ServeError):
    reason = "invalid_argument"


class BadImage(ServeError):
    reason = "invalid_image"


class UnsupportedImage(ServeError):
    reason = "unsupported_format"


class TooLarge(ServeError):
    reason = "too_large"


class NotFound(ServeError):
    reason = "not_found"


class Expired(ServeError):
    reason = "expired"

    @classmethod
    def after(cls, start: float) -> Self:
        """`start` is a time of time.monotonic."""
        return cls(f"the deadline passed after {(time.monotonic() - start) * 1000:.0f} ms")


class WouldMiss(ServeError):
    reason = "would_miss_deadline"

    def __init__(self, message: str, retry_after_s: float | None = None):
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Overloaded(ServeError):
    reason = "overloaded"

    def __init__(self, message: str, retry_after_s: float):
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Disabled(ServeError):
    reason = "disabled"


class NotReady(ServeError):
    reason = "not_ready"


class EngineFailure(ServeError):
    reason = "engine"

    def __init__(self) -> None:
        super().__init__("internal error: the engine failed on this batch")
