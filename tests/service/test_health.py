"""grpc.health.v1: watchers hear every change; and reflection under both of its names."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from server.service import State
from tests.fakes import Fake

Status = health_pb2.HealthCheckResponse
SERVICES = ["", "alexnet.v1.Classifier", "inference.GRPCInferenceService"]


@pytest.mark.parametrize("name", SERVICES)
async def test_a_watcher_hears_every_change_without_being_told_to_look(
    fake: Fake, channel: grpc.aio.Channel, name: str
) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    watch: Any = stub.Watch(health_pb2.HealthCheckRequest(service=name))
    repository, broken = fake.service.repository, vars(fake.pipeline.batcher)

    async def hears(status: int) -> None:
        async with asyncio.timeout(2):
            assert (await watch.read()).status == status
        assert (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status == status

    await hears(Status.SERVING)
    await repository.unload()
    await hears(Status.NOT_SERVING)
    await repository.load()
    await hears(Status.SERVING)
    for engine in fake.pipeline.batcher.engines:  # a batch that does not come back
        engine.free_at = 1.0
    await hears(Status.NOT_SERVING)
    for engine in fake.pipeline.batcher.engines:
        engine.free_at = 0.0
    await hears(Status.SERVING)
    fake.service.state = State.LEAVING
    await hears(Status.NOT_SERVING)
    assert broken


async def test_a_service_that_there_is_not(channel: grpc.aio.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    watch: Any = stub.Watch(health_pb2.HealthCheckRequest(service="nowhere"))
    assert (await watch.read()).status == Status.SERVICE_UNKNOWN
    with pytest.raises(grpc.aio.AioRpcError, match=r"the services are alexnet\.v1") as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="nowhere"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_tells_of_every_service_and_of_itself(
    channel: grpc.aio.Channel, version: str
) -> None:
    ask: Any = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )

    async def told(**question: str) -> Any:
        (answer,) = [
            each async for each in ask(iter([reflection_pb2.ServerReflectionRequest(**question)]))
        ]
        return answer

    names = [each.name for each in (await told(list_services="")).list_services_response.service]
    assert names == [
        "alexnet.v1.Classifier",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "inference.GRPCInferenceService",
    ]
    for name in names:
        response = (await told(file_containing_symbol=name)).file_descriptor_response
        files = map(descriptor_pb2.FileDescriptorProto.FromString, response.file_descriptor_proto)
        found = [f"{f.package}.{service.name}" for f in files for service in f.service]
        assert found == [name]
