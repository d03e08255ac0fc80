"""The gRPC face: protobuf <-> plane, errors -> status codes, deadlines, health, reflection."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
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
HEALTH_WATCHERS = 64  # streams that stay open and hold no photo


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


logs.calm(
    logging.getLogger("grpc._cython.cygrpc"),
    DecodeError,
    "a gRPC message that cannot be read was answered UNKNOWN",
)


class _Health(health.aio.HealthServicer):  # type: ignore[misc] # grpc ships no types
    """grpc.health.v1 that says what the readiness probe says, at the moment it is asked."""

    def __init__(self, plane: DataPlane):
        super().__init__()
        self._plane = plane

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the proto's name
        await self.refresh()
        return await super().Check(request, context)

    async def refresh(self) -> None:
        """Tells the watchers too."""
        status = health_pb2.HealthCheckResponse
        value = status.SERVING if self._plane.ready else status.NOT_SERVING
        for name in ("", SERVICE):
            await self.set(name, value)


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
            maximum_concurrent_rpcs=2 * limits.max_queue_size + HEALTH_WATCHERS,
        )
        pb_grpc.add_ClassifierServicer_to_server(Classifier(plane), self._server)
        self._health = _Health(plane)
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
        await self.refresh_health()

    async def refresh_health(self) -> None:
        """To be called when readiness has changed, for those who watch."""
        await self._health.refresh()

    async def stop(self, grace_s: float) -> None:
        await self._server.stop(grace_s)
