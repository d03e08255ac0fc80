"""Why a photo has no answer."""

import asyncio
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from protos import classifier_pb2 as pb


class ClassifyError(Exception):
    """A photo has no answer; the message is the server's."""

    def __init__(
        self,
        code: str,
        message: str,
        reason: str = "",
        retry_after_s: float | None = None,
        attempts: int = 1,
    ) -> None:
        super().__init__(code, message)
        self.code = code
        """gRPC's name, such as INVALID_ARGUMENT; UNREADABLE if the photo could not be read."""
        self.message = message
        self.reason = reason
        """The server's own name, such as invalid_image; empty if there is none."""
        self.retry_after_s = retry_after_s
        """When the server may have an answer; None if it does not say."""
        self.attempts = attempts
        """How often the server was asked."""

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    @property
    def unreachable(self) -> bool:
        """No photo will fare better: no server is there, or none that takes photos now."""
        return self.code == "UNAVAILABLE"


async def told(method: Any, request: Message, timeout_s: float) -> Any:
    """The response to a request; what gRPC raises becomes a ClassifyError."""
    try:
        return await method(request, timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        raise of_call(error) from None
    except grpc.aio.UsageError:  # how gRPC says that the channel is closed
        raise closed() from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task and task.cancelling():
            raise
        raise closed() from None  # by gRPC: the channel has been closed meanwhile


def closed() -> ClassifyError:
    return ClassifyError("CANCELLED", "the client was closed")


def of_call(error: grpc.aio.AioRpcError) -> ClassifyError:
    trailers = dict(error.trailing_metadata() or ())
    return ClassifyError(
        error.code().name,
        error.details() or "",
        reason=str(trailers.get("alexnet-reason", "")),
        retry_after_s=_retry_after_s(trailers.get("grpc-status-details-bin", b"")),
    )


def of_failure(failure: pb.Failure) -> ClassifyError:
    names = {code.value[0]: code.name for code in grpc.StatusCode}
    return ClassifyError(
        names.get(failure.code, "UNKNOWN"),
        failure.message,
        failure.reason,
        failure.retry_after_ms / 1000 if failure.retry_after_ms else None,
    )


def _retry_after_s(details: str | bytes) -> float | None:
    """Of a serialised google.rpc.Status."""
    retry = RetryInfo()
    try:
        if any(detail.Unpack(retry) for detail in Status.FromString(details).details):
            return float(retry.retry_delay.ToTimedelta().total_seconds())
    except (DecodeError, OverflowError):  # whoever wrote that, it is no advice
        pass
    return None
