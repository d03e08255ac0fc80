"""`alexnet.v1.Classifier`: protobuf <-> service, one photo a call or any number over a stream."""

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.message import DecodeError

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from server.api import access, messages
from server.api.answers import fields_of, look
from server.api.calls import answer_stream, attempt, code, first, responding, time_left
from server.api.options import Options
from server.errors import BadRequest, Expired, ServeError
from server.scheduler.job import Request
from server.service import Service
from server.telemetry import logs

SERVICE = pb.DESCRIPTOR.services_by_name["Classifier"]

NO_REQUEST = "the message is no alexnet.v1.ClassifyRequest"


class Classifier(pb_grpc.ClassifierServicer):
    def __init__(self, service: Service):
        self._service = service

    @responding
    async def Classify(  # noqa: N802 - the proto's name
        self, requests: AsyncIterator[pb.ClassifyRequest], context: Any
    ) -> pb.ClassifyResponse:
        # Refuse before reading the message if no priority could meet the deadline. The message may
        # yet name another version, or a deadline where the call has none.
        service, remaining = self._service, context.time_remaining()
        sure = remaining is not None and len(service.repository.served) == 1
        highest, _ = service.levels
        with service.admit("grpc", remaining, priority=highest, check=sure) as admitted:
            try:
                request = await admitted.receive(first(requests))
            except (StopAsyncIteration, DecodeError):
                raise BadRequest(NO_REQUEST) from None
            except Expired:
                raise Expired("the deadline passed before the photo was here") from None
            own_s = request.timeout_ms / 1000 if request.HasField("timeout_ms") else None
            given = request.request_id
            request_id = access.identify(given) if given else logs.request_id.get()
            return await self._answer(admitted, request, own_s, request_id)

    async def ClassifyStream(  # noqa: N802 - the proto's name
        self, requests: AsyncIterator[pb.ClassifyRequest], context: Any
    ) -> AsyncIterator[pb.ClassifyStreamResponse]:
        left_s = time_left(context)

        async def answer(request: pb.ClassifyRequest) -> pb.ClassifyStreamResponse:
            result = await attempt(self._classify_message(request, left_s()))
            if isinstance(result, ServeError):
                return _failure(request.request_id, result)
            # What the caller knows it by, even where the log and the answer have another.
            own = request.request_id or result.request_id
            return pb.ClassifyStreamResponse(request_id=own, response=result)

        unreadable = _failure("", BadRequest(NO_REQUEST))
        stream = answer_stream(self._service, context, requests, answer, unreadable, in_order=False)
        async for response in stream:
            yield response

    @responding
    async def GetModel(  # noqa: N802 - the proto's name
        self, request: pb.GetModelRequest, context: Any
    ) -> pb.Model:
        fields = messages.version(self._service.pick(request.version))
        accuracy = fields.pop("accuracy") or {}
        return pb.Model(
            **{name: value for name, value in fields.items() if name in _MODEL_FIELDS},
            top1=accuracy.get("top1", 0),
            top5=accuracy.get("top5", 0),
            measured_on=accuracy.get("data", ""),
            versions=[pipeline.number for pipeline in self._service.repository.served],
        )

    async def _classify_message(
        self, request: pb.ClassifyRequest, timeout_s: float | None
    ) -> pb.ClassifyResponse:
        """One of a stream: `timeout_s` is what is left of the call's."""
        if request.HasField("timeout_ms"):
            own_s = request.timeout_ms / 1000
            timeout_s = own_s if timeout_s is None else min(timeout_s, own_s)
        with self._service.admit("grpc-stream", timeout_s, version=request.version) as admitted:
            request_id = access.identify(request.request_id)
            return await self._answer(admitted, request, None, request_id)

    async def _answer(
        self,
        admitted: Request,
        request: pb.ClassifyRequest,
        timeout_s: float | None,
        request_id: str,
    ) -> pb.ClassifyResponse:
        _, default = self._service.levels
        priority = request.priority if request.HasField("priority") else default
        self._service.amend(admitted, timeout_s, priority, request.version)
        asked = _options(request).checked(admitted.version.model)
        answer, explained = await look(self._service, admitted, request.image, asked)
        return pb.ClassifyResponse(**fields_of(answer, explained, asked, request_id))


def _options(request: pb.ClassifyRequest) -> Options:
    return Options(
        top_k=request.top_k if request.HasField("top_k") else None,
        min_probability=request.min_probability,
        labels=request.labels,
        kinds=request.kinds,
        views=request.views or 1,
        explain=request.explain,
    )


_MODEL_FIELDS = pb.Model.DESCRIPTOR.fields_by_name.keys()


def _failure(request_id: str, error: ServeError) -> pb.ClassifyStreamResponse:
    failure = pb.Failure(
        code=code(error),
        reason=error.reason,
        message=str(error),
        retry_after_ms=round((error.retry_after_s or 0) * 1000),
    )
    return pb.ClassifyStreamResponse(request_id=request_id, failure=failure)
