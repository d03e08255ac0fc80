"""Why a photo has no answer."""

import asyncio
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from alexnet_client import classifier_pb2 as pb


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
        """The server's name for the error, such as invalid_image; empty if it gave none. A damaged
        photo of a zip, which is not sent, has that, too."""
        self.retry_after_s = retry_after_s
        """The wait that the server advises before a retry; None without such advice."""
        self.attempts = attempts
        """Calls made, retries included; 0 if the photo was never sent."""

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    @property
    def unreachable(self) -> bool:
        """No server answers, or it is not ready: other photos would fail the same way."""
        return self.code == "UNAVAILABLE"


async def call(method: Any, request: Message | bytes, timeout_s: float) -> Any:
    """The response of a gRPC method; raises ClassifyError where gRPC raises errors of its own."""
    try:
        return await method(request, timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        failed = from_rpc_error(error)
        # gRPC's own refusal. A stream, where it may be of another photo, does without this.
        if failed.code == "RESOURCE_EXHAUSTED" and "larger than max" in failed.message:
            failed.reason = failed.reason or "too_large"
        raise failed from None
    except grpc.aio.UsageError:  # gRPC raises it for a closed channel
        raise closed_error() from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task and task.cancelling():
            raise
        raise closed_error() from None  # not this task: closing the channel cancels its calls


def closed_error() -> ClassifyError:
    return ClassifyError("CANCELLED", "the client was closed")


def from_rpc_error(error: grpc.aio.AioRpcError) -> ClassifyError:
    trailers = trailers_of(error)
    return ClassifyError(
        error.code().name,
        error.details() or "",
        reason=str(trailers.get("alexnet-reason", "")),
        retry_after_s=_retry_after_s(trailers.get("grpc-status-details-bin", b"")),
    )


def trailers_of(error: grpc.aio.AioRpcError) -> dict[str, str | bytes]:
    # By its iterator: keys() of some releases of grpcio, among them 1.62 and 1.73, gives pairs.
    return dict(iter(error.trailing_metadata() or ()))


def from_failure(failure: pb.Failure) -> ClassifyError:
    names = {code.value[0]: code.name for code in grpc.StatusCode}
    return ClassifyError(
        names.get(failure.code, "UNKNOWN"),
        failure.message,
        failure.reason,
        failure.retry_after_ms / 1000 if failure.retry_after_ms else None,
    )


def _retry_after_s(details: str | bytes) -> float | None:
    """`details` is a serialised google.rpc.Status."""
    retry = RetryInfo()
    try:
        if any(detail.Unpack(retry) for detail in Status.FromString(details).details):
            return float(retry.retry_delay.ToTimedelta().total_seconds())
    except (DecodeError, OverflowError):  # malformed details contain no advice
        pass
    return None
