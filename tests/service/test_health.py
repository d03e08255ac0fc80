"""grpc.health.v1: watchers hear every change, take no call; and reflection under both of
its names."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from protos import oip_pb2
from protos import oip_pb2_grpc as oip_grpc
from server.api import grpc as api
from server.api.health import LOOK_S, Health
from server.service import State
from tests.fakes import Fake, faking, flat

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


@asynccontextmanager
async def watching(channel: grpc.aio.Channel, count: int) -> AsyncIterator[None]:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(count)]
    for watch in watches:
        assert (await watch.read()).status == Status.SERVING
    yield
    for watch in watches:
        watch.cancel()


async def refusal(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return str(caught.value.details())


async def test_watchers_take_no_call_from_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    """They ask for no key, and stay: 576 of them had every other call refused."""
    monkeypatch.setattr(api, "HEALTH_WATCHERS", 3)
    async with faking(max_queue_size=1) as fake, asyncio.timeout(10):
        async with grpc.aio.insecure_channel(fake.target) as channel, watching(channel, 3):
            health: Any = health_pb2_grpc.HealthStub(channel)
            for _ in range(3):  # a refusal leaves nothing behind
                why = await refusal(health.Watch(health_pb2.HealthCheckRequest()).read())
                assert why == "all 3 health watches are taken; try again later"
            reflection: Any = channel.stream_stream(
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
            )
            asked = [reflection() for _ in range(3)]
            for each in asked:
                await each.write(
                    reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
                )
                assert await each.read()
            why = await refusal(reflection().read())
            assert why == "all 3 reflection streams are taken; try again later"
            stub: Any = pb_grpc.ClassifierStub(channel)
            assert (await stub.Classify(pb.ClassifyRequest(image=flat(50)))).predictions
            for each in asked:
                each.cancel()
        async with grpc.aio.insecure_channel(fake.target) as channel, watching(channel, 3):
            pass  # there is room again


async def test_a_server_whose_calls_are_all_taken_is_alive_and_says_so() -> None:
    async with (
        faking(max_queue_size=1) as fake,
        grpc.aio.insecure_channel(fake.target) as channel,
        asyncio.timeout(10),
    ):
        infer: Any = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
        slow = [infer() for _ in range(2)]
        stub: Any = pb_grpc.ClassifierStub(channel)

        async def until_they_have_arrived() -> None:
            while True:
                await stub.GetModel(pb.GetModelRequest())
                # It may have had the place of one of them.
                slow[:] = [infer() if call.done() else call for call in slow]

        assert await refusal(until_they_have_arrived()) == "all 2 calls are taken; try again later"
        health: Any = health_pb2_grpc.HealthStub(channel)
        oip: Any = oip_grpc.GRPCInferenceServiceStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == Status.SERVING
        assert (await oip.ServerLive(oip_pb2.ServerLiveRequest())).live
        assert (await oip.ServerReady(oip_pb2.ServerReadyRequest())).ready
        async with watching(channel, 2):
            pass
        for each in slow:
            each.cancel()


async def test_a_watch_whose_message_does_not_come_ends() -> None:
    """No handler knew of it, and gRPC counted it for ever."""
    async with (
        faking(request_timeout_s=0.2) as fake,
        grpc.aio.insecure_channel(fake.target) as channel,
        asyncio.timeout(10),
    ):
        for method in ("Watch", "Check"):
            call: Any = channel.stream_stream(f"/grpc.health.v1.Health/{method}")()
            with pytest.raises(grpc.aio.AioRpcError, match="before the message was here"):
                await call.read()


async def test_there_is_one_look_for_all_watchers_and_none_without() -> None:
    looks = 0

    def ready() -> bool:
        nonlocal looks
        looks += 1
        return True

    class Context:
        async def write(self, answer: Any) -> None: ...

    health, asked = Health(ready, ()), health_pb2.HealthCheckRequest()
    watchers = [asyncio.create_task(health.Watch(asked, Context())) for _ in range(50)]
    await asyncio.sleep(0)
    began, looks = looks, 0
    await asyncio.sleep(5 * LOOK_S)
    assert began >= len(watchers)
    assert 1 <= looks <= 5
    for each in watchers:
        each.cancel()
    await asyncio.gather(*watchers, return_exceptions=True)
    looks = 0
    await asyncio.sleep(2 * LOOK_S)
    assert looks == 0
