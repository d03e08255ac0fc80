"""The Open Inference Protocol over gRPC, with Triton's extensions."""

# ruff: noqa: N802 - the proto's names

from collections.abc import AsyncIterator, Mapping, Sized
from typing import Any
from urllib.parse import unquote

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from protos import oip_pb2 as pb
from protos import oip_pb2_grpc as pb_grpc
from server.api.calls import answer_stream, attempt, responding, time_left
from server.api.oip import metadata
from server.api.oip.control import RepositoryControl
from server.api.oip.tensors import Input, Requested, clipped, refuse_shared_memory
from server.errors import BadRequest, NotFound, ServeError
from server.service import Service

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]

# Of inputs, outputs, dimensions or parameters: each becomes an object, while nothing else runs.
MAX_PARTS = 100
# A request of a stream has one answer, and a caller may wait until one says that it is the last.
CACHED = {"cached": pb.InferParameter(bool_param=True)}
FINAL = {"triton_final_response": pb.InferParameter(bool_param=True)}


class OpenInference(pb_grpc.GRPCInferenceServiceServicer):
    def __init__(self, service: Service, control: RepositoryControl):
        self._service, self._control, self._models = service, control, control.models

    async def ServerLive(self, request: Any, context: Any) -> Message:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Message:
        return pb.ServerReadyResponse(ready=self._service.ready)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Any) -> Message:
        """False, as in Triton, for a model that does not exist."""
        try:
            ready = self._models.ready(request.name, request.version)
        except NotFound:
            ready = False
        return pb.ModelReadyResponse(ready=ready)

    async def ServerMetadata(self, request: Any, context: Any) -> Message:
        data = metadata.server(self._control.extensions)
        return ParseDict(data, pb.ServerMetadataResponse())

    @responding
    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Any) -> Message:
        data = metadata.metadata(self._models, request.name, request.version)
        return ParseDict(data, pb.ModelMetadataResponse())

    @responding
    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Any) -> Message:
        data = metadata.config(self._models, request.name, request.version)
        return ParseDict({"config": data}, pb.ModelConfigResponse())

    @responding
    async def ModelStatistics(self, request: pb.ModelStatisticsRequest, context: Any) -> Message:
        counts = await self._control.control.counts()
        data = metadata.statistics(self._models, request.name, request.version, counts)
        return ParseDict(data, pb.ModelStatisticsResponse())

    @responding
    async def ModelInfer(self, request: pb.ModelInferRequest, context: Any) -> Message:
        return await self._answer(request, "oip-grpc", context.time_remaining())

    async def ModelStreamInfer(
        self, requests: AsyncIterator[pb.ModelInferRequest], context: Any
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Answers in the order of the requests: an error has nothing else to be matched by."""
        left_s = time_left(context)

        async def answer(request: pb.ModelInferRequest) -> pb.ModelStreamInferResponse:
            result = await attempt(self._answer(request, "oip-grpc-stream", left_s()))
            if not isinstance(result, ServeError):
                result.MergeFrom(pb.ModelInferResponse(parameters=FINAL))
                return pb.ModelStreamInferResponse(infer_response=result)
            failed = pb.ModelInferResponse(
                model_name=request.model_name, model_version=request.model_version, id=request.id,
                parameters=FINAL,
            )  # fmt: skip
            return pb.ModelStreamInferResponse(error_message=str(result), infer_response=failed)

        unreadable = pb.ModelStreamInferResponse(
            error_message="the message is no ModelInferRequest"
        )
        stream = answer_stream(self._service, context, requests, answer, unreadable, in_order=True)
        async for response in stream:
            yield response

    @responding
    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest, context: Any) -> Message:
        index = await self._control.index(_peer(context), request.ready)
        return ParseDict({"models": index}, pb.RepositoryIndexResponse())

    @responding
    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: Any
    ) -> Message:
        await self._control.load(_peer(context), request.model_name, request.parameters)
        return pb.RepositoryModelLoadResponse()

    @responding
    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: Any
    ) -> Message:
        await self._control.unload(_peer(context), request.model_name)
        return pb.RepositoryModelUnloadResponse()

    async def _answer(
        self, request: pb.ModelInferRequest, face: str, timeout_s: float | None
    ) -> pb.ModelInferResponse:
        self._models.check(request.model_name)
        _check_parts(request)
        size = request.ByteSize()
        with self._service.admit(
            face,
            timeout_s,
            version=request.model_version,
            model=request.model_name,
            upload_bytes=size,
        ) as admitted:
            admitted.hold_upload(size)
            self._models.schedule(_parameters(request.parameters), admitted)
            outputs = [Requested(o.name, _parameters(o.parameters)) for o in request.outputs]
            output = await self._models.infer(_inputs(request), outputs, admitted)
            return pb.ModelInferResponse(
                model_name=request.model_name,
                model_version=admitted.version.number,
                id=request.id,
                outputs=[
                    pb.ModelInferResponse.InferOutputTensor(
                        name=output.name, datatype=output.datatype, shape=output.shape
                    )
                ],
                raw_output_contents=[output.raw()],
                parameters=CACHED if output.cached else {},
            )


def _check_parts(request: pb.ModelInferRequest) -> None:
    """Raises BadRequest."""
    parts: list[Sized] = [request.inputs, request.outputs, request.parameters]
    if max(map(len, parts)) <= MAX_PARTS:
        parts += [part for each in request.inputs for part in (each.shape, each.parameters)]
        parts += [output.parameters for output in request.outputs]
    if max(map(len, parts)) > MAX_PARTS:
        raise BadRequest(f"there are over {MAX_PARTS} inputs, outputs, dimensions or parameters")


def _inputs(request: pb.ModelInferRequest) -> list[Input]:
    """Raises BadRequest when raw and typed contents are mixed, or not one for each input."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise BadRequest(f"{len(raw)} raw_input_contents for {len(request.inputs)} inputs")
    inputs = []
    for i, tensor in enumerate(request.inputs):
        refuse_shared_memory(tensor.parameters)
        if raw and tensor.HasField("contents"):
            raise BadRequest(f"input {clipped(tensor.name)} has contents beside its raw contents")
        contents = tensor.contents
        elements = contents.bytes_contents if tensor.datatype == "BYTES" else contents.uint_contents
        shape = tuple(tensor.shape)
        inputs.append(Input(tensor.name, tensor.datatype, shape, raw[i] if raw else None, elements))
    return inputs


def _parameters(given: Mapping[str, pb.InferParameter]) -> dict[str, Any]:
    return {
        name: getattr(value, value.WhichOneof("parameter_choice") or "", None)
        for name, value in given.items()
    }


def _peer(context: Any) -> str:
    """The address of `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`."""
    kind, _, address = context.peer().partition(":")
    host = unquote(address).rpartition(":")[0].strip("[]")
    return host if kind in ("ipv4", "ipv6") else ""
