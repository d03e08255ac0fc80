"""`alexnet.v1.Classifier`: protobuf <-> plane, one photo a call or any number over a stream."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.message import DecodeError

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from server.api.request_id import checked_request_id
from server.api.status import CODES, caught, guarded
from server.api.streaming import streaming
from server.errors import BadRequest, Expired, ServeError
from server.models.version import Served
from server.service import Classification, DataPlane
from server.telemetry import logs
from server.telemetry.counts import Timing

SERVICE = pb.DESCRIPTOR.services_by_name["Classifier"]

NO_REQUEST = "the message is no alexnet.v1.ClassifyRequest"


class Classifier(pb_grpc.ClassifierServicer):
    def __init__(self, plane: DataPlane):
        self._plane = plane

    async def Classify(  # noqa: N802 - the proto's name
        self, requests: AsyncIterator[pb.ClassifyRequest], context: Any
    ) -> pb.ClassifyResponse:
        async def answer() -> pb.ClassifyResponse:
            # Who has no chance, whatever his priority, is told before his photo is read. He may
            # yet ask for another version, or for a deadline where the call has none.
            remaining = context.time_remaining()
            sure = remaining is not None and len(self._plane.repository.served) == 1
            with self._plane.admit("grpc", remaining, priority=1, upload_bytes=0, hurried=sure):
                pass
            try:
                async with asyncio.timeout(self._plane.limits.request_timeout_s):
                    request = await anext(aiter(requests))
            except (StopAsyncIteration, DecodeError):
                raise BadRequest(NO_REQUEST) from None
            except TimeoutError:
                raise Expired("the deadline passed before the photo was here") from None
            return await self._answer(request, "grpc", context.time_remaining())

        return await guarded(answer, context)

    async def ClassifyStream(  # noqa: N802 - the proto's name
        self, requests: AsyncIterator[pb.ClassifyRequest], context: Any
    ) -> AsyncIterator[pb.ClassifyStreamResponse]:
        remaining = context.time_remaining()
        ends = None if remaining is None else time.monotonic() + remaining
        room = asyncio.Semaphore(self._plane.stream_window)
        answers: asyncio.Queue[pb.ClassifyStreamResponse | None] = asyncio.Queue()

        async def answer(request: pb.ClassifyRequest) -> None:
            answers.put_nowait(await self._stream_answer(request, ends))

        async def read() -> None:
            try:
                async with asyncio.TaskGroup() as photos:
                    try:
                        async for request in requests:
                            await room.acquire()
                            photos.create_task(answer(request))
                    except DecodeError:  # what follows cannot be read either
                        answers.put_nowait(_failure("", BadRequest(NO_REQUEST)))
            finally:
                answers.put_nowait(None)

        async with streaming(self._plane, context, read):
            while response := await answers.get():
                yield response
                room.release()  # and not before: who does not read is not sent for

    async def GetModel(  # noqa: N802 - the proto's name
        self, request: pb.GetModelRequest, context: Any
    ) -> pb.Model:
        async def answer() -> pb.Model:
            repository = self._plane.repository
            versions = [served.version for served in repository.served]
            return _model(repository.pick(request.version), versions)

        return await guarded(answer, context)

    async def _answer(
        self, request: pb.ClassifyRequest, face: str, timeout_s: float | None
    ) -> pb.ClassifyResponse:
        request_id = checked_request_id(request.request_id)
        logs.request_id.set(request_id)
        if request.HasField("timeout_ms"):
            own_s = request.timeout_ms / 1000
            timeout_s = own_s if timeout_s is None else min(timeout_s, own_s)
        priority = request.priority if request.HasField("priority") else None
        k = request.top_k if request.HasField("top_k") else None
        with self._plane.admit(
            face, timeout_s, priority=priority, version=request.version
        ) as admission:
            return response(await self._plane.classify(request.image, admission, k), request_id)

    async def _stream_answer(
        self, request: pb.ClassifyRequest, ends: float | None
    ) -> pb.ClassifyStreamResponse:
        timeout_s = None if ends is None else ends - time.monotonic()
        result = await caught(self._answer(request, "grpc-stream", timeout_s))
        if isinstance(result, ServeError):
            return _failure(request.request_id, result)
        return pb.ClassifyStreamResponse(request_id=result.request_id, response=result)


def _failure(request_id: str, error: ServeError) -> pb.ClassifyStreamResponse:
    failure = pb.Failure(
        code=CODES[error.reason].value[0],
        reason=error.reason,
        message=str(error),
        retry_after_ms=round((error.retry_after_s or 0) * 1000),
    )
    return pb.ClassifyStreamResponse(request_id=request_id, failure=failure)


def response(result: Classification, request_id: str) -> pb.ClassifyResponse:
    photo, served = result.photo, result.served
    labels = served.model.bundle.labels
    return pb.ClassifyResponse(
        predictions=[
            pb.Prediction(
                index=p.index,
                synset=labels[p.index].synset,
                label=labels[p.index].name,
                probability=p.probability,
            )
            for p in result.predictions
        ],
        model=pb.ModelVersion(
            name=served.model.name, version=served.version, build=served.model.version
        ),
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


def _model(served: Served, versions: list[str]) -> pb.Model:
    manifest, artifact = served.model.bundle.manifest, served.model.artifact
    accuracy = artifact.accuracy
    return pb.Model(
        name=manifest.model.name,
        version=served.version,
        classes=manifest.model.classes,
        known_classes=manifest.model.known_classes,
        top1=accuracy.top1 if accuracy else 0,
        top5=accuracy.top5 if accuracy else 0,
        measured_on=accuracy.data if accuracy else "",
        precision=served.model.precision,
        crop=manifest.preprocess.crop,
        build=manifest.model.version,
        versions=versions,
    )


def _timing(timing: Timing) -> pb.Timing:
    return pb.Timing(
        decode_ms=timing.decode * 1000,
        queue_ms=timing.queue * 1000,
        infer_ms=timing.infer * 1000,
        total_ms=timing.total * 1000,
        batch_size=timing.batch_size,
    )
