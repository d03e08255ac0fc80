"""The gRPC face: protobuf <-> plane, errors -> status codes, deadlines, health, reflection."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from server import logs
from server.errors import Overloaded, ServeError
from server.faces.request_id import checked_request_id
from server.metrics import Timing
from server.plane import Classification, DataPlane

log = logging.getLogger(__name__)

SERVICE = pb.DESCRIPTOR.services_by_name["Classifier"].full_name

CODES = {
    "invalid_argument": grpc.StatusCode.INVALID_ARGUMENT,
    "invalid_image": grpc.StatusCode.INVALID_ARGUMENT,
    "unsupported_format": grpc.StatusCode.INVALID_ARGUMENT,
    "too_large": grpc.StatusCode.INVALID_ARGUMENT,
    "not_found": grpc.StatusCode.NOT_FOUND,
    "expired": grpc.StatusCode.DEADLINE_EXCEEDED,
    "overloaded": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "not_ready": grpc.StatusCode.UNAVAILABLE,
    "engine": grpc.StatusCode.INTERNAL,
}

# A photo may fill the whole message; the rest of a request is a few hundred bytes.
MESSAGE_OVERHEAD = 64 << 10


class Classifier(pb_grpc.ClassifierServicer):
    def __init__(self, plane: DataPlane):
        self._plane = plane

    async def Classify(  # noqa: N802 - the proto's name
        self, request: pb.ClassifyRequest, context: Any
    ) -> pb.ClassifyResponse:
        async def answer() -> pb.ClassifyResponse:
            request_id = checked_request_id(request.request_id)
            logs.request_id.set(request_id)
            k = request.top_k if request.HasField("top_k") else None
            with self._plane.admit("grpc", context.time_remaining()) as admission:
                result = await self._plane.classify(request.image, admission, k)
            return response(self._plane, result, request_id)

        return await _guarded(answer, context)

    async def GetModel(  # noqa: N802 - the proto's name
        self, request: pb.GetModelRequest, context: Any
    ) -> pb.Model:
        manifest, artifact = self._plane.model.bundle.manifest, self._plane.model.artifact
        accuracy = artifact.accuracy
        return pb.Model(
            name=manifest.model.name,
            version=manifest.model.version,
            classes=manifest.model.classes,
            known_classes=manifest.model.known_classes,
            top1=accuracy.top1 if accuracy else 0,
            top5=accuracy.top5 if accuracy else 0,
            measured_on=accuracy.data if accuracy else "",
            precision=artifact.precision,
            crop=manifest.preprocess.crop,
        )


def response(plane: DataPlane, result: Classification, request_id: str) -> pb.ClassifyResponse:
    photo = result.photo
    return pb.ClassifyResponse(
        predictions=[
            pb.Prediction(
                index=p.index,
                synset=p.label.synset,
                label=p.label.name,
                probability=p.probability,
            )
            for p in result.predictions
        ],
        model=pb.ModelVersion(name=plane.model.name, version=plane.model.version),
        image=pb.Image(
            format=photo.format,
            width=photo.width,
            height=photo.height,
            mode=photo.mode,
            orientation=photo.orientation,
        ),
        timing=_timing(result.timing),
        request_id=request_id,
    )


def _timing(timing: Timing) -> pb.Timing:
    return pb.Timing(
        decode_ms=timing.decode * 1000,
        queue_ms=timing.queue * 1000,
        infer_ms=timing.infer * 1000,
        total_ms=timing.total * 1000,
        batch_size=timing.batch_size,
    )


async def _guarded(
    answer: Callable[[], Awaitable[pb.ClassifyResponse]], context: Any
) -> pb.ClassifyResponse:
    try:
        return await answer()
    except ServeError as error:
        await _abort(context, error)
    except Exception:
        log.exception("a bug answered a gRPC call with 'internal error'")
        await context.abort(grpc.StatusCode.INTERNAL, "internal error")
    raise AssertionError("abort always raises")


async def _abort(context: Any, error: ServeError) -> NoReturn:
    trailers = [("alexnet-reason", error.reason)]
    if isinstance(error, Overloaded):
        # gRPC's own hint (gRFC A6): clients with a retry policy wait exactly this long.
        milliseconds = str(round(error.retry_after_s * 1000))
        trailers.append(("grpc-retry-pushback-ms", milliseconds))
    await context.abort(CODES[error.reason], str(error), tuple(trailers))
    raise AssertionError("abort always raises")


def _calmly(record: logging.LogRecord) -> bool:
    """Bytes that are no message are the sender's fault: a line, not an error with a traceback."""
    if record.exc_info and type(record.exc_info[1]).__name__ == "DecodeError":
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.msg, record.args = "a gRPC message that cannot be read was answered UNKNOWN", ()
        record.exc_info = None
    return True


logging.getLogger("grpc._cython.cygrpc").addFilter(_calmly)


class RpcFace:
    """The gRPC server on its port, with grpc.health.v1 and reflection."""

    def __init__(self, plane: DataPlane, host: str, port: int):
        limits = plane.limits
        self._server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", limits.max_request_bytes + MESSAGE_OVERHEAD),
                # Two servers on one port would share its calls without a word.
                ("grpc.so_reuseport", 0),
            ),
            # Photos are in memory before the plane can refuse them: this bounds how many.
            maximum_concurrent_rpcs=2 * limits.max_queue_size,
        )
        pb_grpc.add_ClassifierServicer_to_server(Classifier(plane), self._server)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.port = port

    async def start(self) -> None:
        """Raises OSError when the port is taken."""
        try:
            self.port = self._server.add_insecure_port(self._address)
        except RuntimeError:
            raise OSError(f"cannot listen on {self._address} for gRPC: is it in use?") from None
        await self._server.start()
        await self.set_ready(True)

    async def set_ready(self, ready: bool) -> None:
        status = health_pb2.HealthCheckResponse
        value = status.SERVING if ready else status.NOT_SERVING
        for name in ("", SERVICE):
            await self._health.set(name, value)

    async def stop(self, grace_s: float) -> None:
        await self._server.stop(grace_s)
