"""A fake server for tests of code that uses the client: real gRPC, scripted answers."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any, Self, TypeAlias

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from alexnet_client import classifier_pb2 as pb
from alexnet_client import health
from alexnet_client.aio import MAX_IMAGE_BYTES
from alexnet_client.classifier_pb2_grpc import ClassifierServicer, add_ClassifierServicer_to_server
from alexnet_client.errors import ClassifyError
from alexnet_client.results import Classification, Image, Model, ModelVersion, Prediction, Timing

THREADS = 32

Outcome: TypeAlias = Classification | ClassifyError


def classification(*labels: str) -> Classification:
    """An answer with these labels and the probabilities 1/2, 1/4, ..."""
    return Classification(
        predictions=tuple(
            Prediction(i, f"n{i:08}", label, 0.5 ** (i + 1)) for i, label in enumerate(labels)
        ),
        model=ModelVersion("fake", "1", "fake"),
        image=Image("JPEG", 640, 480, "RGB", 1),
        timing=Timing(1.0, 2.0, 3.0, 6.0, 1),
        request_id="",
    )


class FakeServer(ClassifierServicer):
    """Listens on a loopback port inside its `with` block.

    A photo gets the next of `failures` while there are any; else what `answers` has for its bytes;
    else the result of the function.
    """

    def __init__(
        self,
        answer: Callable[[bytes], Outcome] = lambda image: classification("tabby cat", "lynx"),
        port: int = 0,
        max_image_bytes: int = MAX_IMAGE_BYTES,
    ) -> None:
        self.answer = answer
        self.answers: dict[bytes, Outcome] = {}
        self.failures: list[ClassifyError] = []
        self.model = Model("fake", "1", 1000, 1000, 0.5, 0.75, "", "fp32", 224, "fake", ("1",))
        self.requests: list[pb.ClassifyRequest] = []
        """In order of arrival."""
        self.most_at_once = 0
        """Highest number of photos in the server at the same time."""
        self.gate = Event()
        """Photos are answered only while it is set, as it is at first."""
        self.gate.set()
        self.waiting = Event()
        """Set once a photo has reached the gate."""
        self._at_once = 0
        self._lock = Lock()
        self.set_ready(True)
        options = [("grpc.max_receive_message_length", max_image_bytes + (64 << 10))]
        self._server = grpc.server(ThreadPoolExecutor(THREADS), options=options)
        add_ClassifierServicer_to_server(self, self._server)
        self._server.add_generic_rpc_handlers((self._health(),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port(f'127.0.0.1:{port}')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends all calls as a server that stops does: UNAVAILABLE, or CANCELLED."""
        self._server.stop(None)
        self.gate.set()
        self._server.wait_for_termination()

    def set_ready(self, ready: bool) -> None:
        """Sets what `Client.ready` returns."""
        self._ready = ready

    def _health(self) -> grpc.GenericRpcHandler:
        def check(request: bytes, context: grpc.ServicerContext) -> bytes:
            return health.SERVING if self._ready else health.NOT_SERVING

        handler: Any = grpc.unary_unary_rpc_method_handler(check)
        return grpc.method_handlers_generic_handler(health.SERVICE, {"Check": handler})

    def Classify(  # noqa: N802 - the proto's name
        self, request: pb.ClassifyRequest, context: grpc.ServicerContext
    ) -> pb.ClassifyResponse:
        outcome = self._outcome(request)
        if isinstance(outcome, ClassifyError):
            context.set_trailing_metadata(_trailers(outcome))
            context.abort(grpc.StatusCode[outcome.code], outcome.message)
        return _response(outcome, request)

    def ClassifyStream(  # noqa: N802 - the proto's name
        self, requests: Iterator[pb.ClassifyRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ClassifyStreamResponse]:
        ready: SimpleQueue[pb.ClassifyStreamResponse | None] = SimpleQueue()

        def answer(request: pb.ClassifyRequest) -> None:
            outcome = self._outcome(request)
            result = pb.ClassifyStreamResponse(request_id=request.request_id)
            if isinstance(outcome, ClassifyError):
                result.failure.CopyFrom(_failure(outcome))
            else:
                result.response.CopyFrom(_response(outcome, request))
            ready.put(result)

        def read() -> None:
            try:
                with ThreadPoolExecutor(THREADS) as pool:
                    for request in requests:
                        pool.submit(answer, request)
            except grpc.RpcError:  # gRPC raises it when the call has ended
                pass
            ready.put(None)

        Thread(target=read, daemon=True).start()
        yield from iter(ready.get, None)

    def GetModel(  # noqa: N802 - the proto's name
        self, request: pb.GetModelRequest, context: grpc.ServicerContext
    ) -> pb.Model:
        return pb.Model(**asdict(self.model))

    def _outcome(self, request: pb.ClassifyRequest) -> Outcome:
        with self._lock:
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            failure = self.failures.pop(0) if self.failures else None
        self.waiting.set()
        self.gate.wait()
        with self._lock:
            self._at_once -= 1
        try:
            return failure or self.answers.get(request.image) or self.answer(request.image)
        except Exception as error:
            return ClassifyError("UNKNOWN", f"the fake's function raised {error!r}")


def _response(outcome: Classification, request: pb.ClassifyRequest) -> pb.ClassifyResponse:
    fields: dict[str, Any] = asdict(outcome)
    del fields["attempts"]
    fields["predictions"] = fields["predictions"][: request.top_k or 5]
    fields["request_id"] = request.request_id or "made-up"
    return pb.ClassifyResponse(**fields)


def _failure(error: ClassifyError) -> pb.Failure:
    return pb.Failure(
        code=grpc.StatusCode[error.code].value[0],
        reason=error.reason,
        message=error.message,
        retry_after_ms=round(1000 * (error.retry_after_s or 0)),
    )


def _trailers(error: ClassifyError) -> tuple[tuple[str, str | bytes], ...]:
    status = Status(code=grpc.StatusCode[error.code].value[0], message=error.message)
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(round(error.retry_after_s * 1e9))
        status.details.add().Pack(RetryInfo(retry_delay=delay))
    return (
        ("alexnet-reason", error.reason),
        ("grpc-status-details-bin", status.SerializeToString()),
    )
