"""grpc.reflection.v1 beside v1alpha: the same messages under another name, which the library for
Python has not got."""

from collections.abc import Sequence

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2

OLD, NEW = "grpc.reflection.v1alpha", "grpc.reflection.v1"
SERVICE_NAMES = reflection.SERVICE_NAME, f"{NEW}.ServerReflection"


def enable(names: Sequence[str], server: grpc.aio.Server) -> None:
    """Tells of these services, and of itself."""
    _describe()
    servicer = reflection.aio.ReflectionServicer((*names, *SERVICE_NAMES))
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method})
            for name in SERVICE_NAMES
        )
    )


def _describe() -> None:
    """Reflection can describe itself."""
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name, file.package = f"{NEW.replace('.', '/')}/reflection.proto", NEW
    file.ClearField("options")
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(OLD, NEW)
    for service in file.service:
        for method in service.method:
            method.input_type = method.input_type.replace(OLD, NEW)
            method.output_type = method.output_type.replace(OLD, NEW)
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
