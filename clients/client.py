"""The client: photos to the server, their classes back, over one channel."""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeAlias

import grpc

from clients.photos import Photo
from protos.classifier_pb2 import ClassifyRequest, ClassifyResponse
from protos.classifier_pb2_grpc import ClassifierStub

DEFAULT_ADDRESS = "127.0.0.1:8001"
MAX_MESSAGE_BYTES = 64 << 20

# A photo's classes are the same however often one asks, so both of these are safe to repeat: no
# server yet, and a full queue. gRPC adds the jitter and stays within the deadline.
_RETRY = {
    "maxAttempts": 5,  # the most that gRPC does; about 1.5 s of waiting in all
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
}
_SERVICE_CONFIG = {"methodConfig": [{"name": [{}], "retryPolicy": _RETRY}]}
_OPTIONS: list[tuple[str, str | int]] = [
    # gRPC's own limit is 4 MB; photos are larger.
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # Above this (256 KB unless told) gRPC forgets the photo once sent, and quietly never retries.
    ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES),
    # Its 1 s and 2 min would let the attempts above fail without once trying to connect.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class ClassifyError(Exception):
    """A photo has no answer; the message is the server's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        """gRPC's name, such as INVALID_ARGUMENT; UNREADABLE if the photo could not be read."""
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    @property
    def unreachable(self) -> bool:
        """No photo will fare better: no server is there, or none that takes photos now."""
        return self.code == "UNAVAILABLE"


Answer: TypeAlias = tuple[Photo, ClassifyResponse | ClassifyError]


class Client:
    """One channel to one server; for any number of threads."""

    def __init__(self, address: str = DEFAULT_ADDRESS) -> None:
        self.address = address
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._stub = ClassifierStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancels what is in flight."""
        self._channel.close()

    def classify(
        self,
        image: bytes,
        top_k: int | None = None,
        timeout_s: float = 10.0,
        request_id: str = "",
    ) -> ClassifyResponse:
        """Raises ClassifyError; `timeout_s` includes the retries. The server's own `top_k` is 5,
        or all classes of a model that has fewer."""
        request = ClassifyRequest(image=image, top_k=top_k, request_id=request_id)
        try:
            response: ClassifyResponse = self._stub.Classify(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise _classify_error(error) from None
        return response

    def classify_many(
        self,
        photos: Iterable[Photo],
        top_k: int | None = None,
        concurrency: int = 8,
        timeout_s: float = 10.0,
    ) -> Iterator[Answer]:
        """Each photo with its answer, in the order of the photos.

        At most `concurrency` photos are in memory and in flight; a few more answers may wait for
        an earlier photo, so that a slow one does not hold up the others.
        """
        pool = ThreadPoolExecutor(concurrency)
        waiting: deque[tuple[Photo, Future[ClassifyResponse | ClassifyError]]] = deque()
        try:
            for photo in photos:
                waiting.append((photo, pool.submit(self._answer, photo, top_k, timeout_s)))
                while waiting and (waiting[0][1].done() or len(waiting) >= 2 * concurrency):
                    first, future = waiting.popleft()
                    yield first, future.result()
            for photo, future in waiting:
                yield photo, future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _answer(
        self, photo: Photo, top_k: int | None, timeout_s: float
    ) -> ClassifyResponse | ClassifyError:
        try:
            return self.classify(photo.read(), top_k, timeout_s)
        except ClassifyError as error:
            return error
        except OSError as error:
            return ClassifyError("UNREADABLE", error.strerror or str(error))


def _classify_error(error: grpc.RpcError) -> ClassifyError:
    assert isinstance(error, grpc.Call)  # as all are that a call raises
    return ClassifyError(error.code().name, error.details() or "")
