"""The gRPC face of a real server process, with gRPC's own health, reflection and client."""

import asyncio
import io
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from PIL import Image

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from server.api.calls import responding
from server.errors import BadRequest
from tests.photos import draw, encode, jpeg, png
from tests.processes import ServerProcess

pytestmark = pytest.mark.process

SERVICE = "alexnet.v1.Classifier"
SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture
async def channel(server: ServerProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Any:
    return pb_grpc.ClassifierStub(channel)


async def test_a_photo_is_answered_with_five_classes(stub: Any) -> None:
    reply = await stub.Classify(pb.ClassifyRequest(image=jpeg(320, 240)))
    assert len(reply.predictions) == 5
    probabilities = [p.probability for p in reply.predictions]
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < sum(probabilities) <= 1.0001
    assert all(re.fullmatch(r"n\d{8}", p.synset) and p.label for p in reply.predictions)
    assert reply.model.name == "alexnet"
    assert reply.image == pb.Image(
        format="JPEG", width=320, height=240, mode="RGB", orientation=1, frames=1
    )
    timing = reply.timing
    assert timing.batch_size >= 1
    assert timing.infer_ms > 0
    assert timing.queue_ms == pytest.approx(timing.decode_queue_ms + timing.batch_queue_ms)
    stages = timing.upload_ms + timing.decode_ms + timing.queue_ms + timing.infer_ms
    assert timing.total_ms >= stages * 0.999


async def test_what_was_uploaded_is_described_as_it_was(stub: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(draw(320, 240, "L"), "JPEG", exif=exif)
    reply = await stub.Classify(pb.ClassifyRequest(image=turned))
    assert reply.image == pb.Image(
        format="JPEG", width=320, height=240, mode="L", orientation=6, frames=1
    )


@pytest.mark.parametrize("k", [1, 17, 1000])
async def test_top_k_counts_the_classes(stub: Any, k: int) -> None:
    reply = await stub.Classify(pb.ClassifyRequest(image=png(), top_k=k))
    assert len({p.index for p in reply.predictions}) == k


async def test_the_callers_request_id_comes_back(stub: Any) -> None:
    reply = await stub.Classify(pb.ClassifyRequest(image=jpeg(), request_id="trace-42"))
    assert reply.request_id == "trace-42"


async def test_a_request_without_an_id_is_given_one_of_its_own(stub: Any) -> None:
    ids = [(await stub.Classify(pb.ClassifyRequest(image=jpeg()))).request_id for _ in range(2)]
    assert all(re.fullmatch(r"[0-9a-f]{32}", given) for given in ids)
    assert ids[0] != ids[1]


async def test_a_request_id_that_could_break_the_log_is_replaced(stub: Any) -> None:
    reply = await stub.Classify(pb.ClassifyRequest(image=jpeg(), request_id="a\nb"))
    assert re.fullmatch(r"[0-9a-f]{32}", reply.request_id)


async def test_the_model_is_described_as_over_rest(stub: Any, server: ServerProcess) -> None:
    model = await stub.GetModel(pb.GetModelRequest())
    async with (
        aiohttp.ClientSession(server.http) as session,
        session.get(f"/v1/models/{model.name}") as response,
    ):
        rest = await response.json()
    for name in ("version", "classes", "known_classes", "precision", "crop"):
        assert getattr(model, name) == rest[name], name
    accuracy = rest["accuracy"] or {"top1": 0, "top5": 0, "data": ""}
    assert model.top1 == pytest.approx(accuracy["top1"])
    assert model.top5 == pytest.approx(accuracy["top5"])
    assert model.measured_on == accuracy["data"]


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_health_says_serving(channel: grpc.aio.Channel, service: str) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    reply = await health.Check(health_pb2.HealthCheckRequest(service=service))
    assert reply.status == SERVING
    watch = health.Watch(health_pb2.HealthCheckRequest(service=service))
    assert (await watch.read()).status == SERVING
    watch.cancel()


async def test_the_health_of_an_unknown_service_is_not_found(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service="alexnet.v9.Nothing")
        )
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_lists_and_describes_the_service(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {SERVICE, "grpc.health.v1.Health"} <= set(database.get_services())
        service = DescriptorPool(database).FindServiceByName(SERVICE)
        names = [method.name for method in service.methods]
        assert names == ["Classify", "ClassifyStream", "GetModel"]


async def test_a_photo_of_15_megabytes_passes_on_both_faces(
    stub: Any, server: ServerProcess
) -> None:
    """gRPC's own limit is 4 MB and aiohttp's 1 MB."""
    noise = np.random.default_rng(0).integers(0, 256, (2240, 2240, 3), np.uint8)
    image = encode(Image.fromarray(noise), "PNG", compress_level=0)
    assert 15_000_000 < len(image) < 20_000_000
    reply = await stub.Classify(pb.ClassifyRequest(image=image))
    assert (reply.image.width, reply.image.height) == (2240, 2240)
    async with (
        aiohttp.ClientSession(server.http) as session,
        session.post("/v1/classify", data=io.BytesIO(image)) as response,
    ):
        body = await response.json()
    assert [p["index"] for p in body["predictions"]] == [p.index for p in reply.predictions]


@pytest.mark.parametrize("method", [f"/{SERVICE}/Detect", "/alexnet.v2.Classifier/Classify"])
async def test_an_unknown_method_is_unimplemented(channel: grpc.aio.Channel, method: str) -> None:
    call: Any = channel.unary_unary(method)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("image", [jpeg(640, 480, seed=1), png(99, 301, "RGBA", seed=2)])
async def test_both_faces_give_the_same_answer(
    stub: Any, server: ServerProcess, image: bytes
) -> None:
    request = pb.ClassifyRequest(image=image, top_k=20, request_id="same")
    reply = await stub.Classify(request)
    headers = {"x-request-id": "same"}
    async with (
        aiohttp.ClientSession(server.http) as session,
        session.post("/v1/classify?top_k=20", data=image, headers=headers) as response,
    ):
        body = await response.json()
    assert [(p["index"], p["synset"], p["label"]) for p in body["predictions"]] == [
        (p.index, p.synset, p.label) for p in reply.predictions
    ]
    assert [p["probability"] for p in body["predictions"]] == pytest.approx(
        [p.probability for p in reply.predictions], abs=1e-6
    )
    assert body["model"] == {
        name: getattr(reply.model, name) for name in ("name", "version", "build")
    }
    photo = {field.name: getattr(reply.image, field.name) for field in pb.Image.DESCRIPTOR.fields}
    assert body["image"] == photo | {"warnings": list(reply.image.warnings)}
    assert body["request_id"] == reply.request_id


async def test_a_call_that_ended_before_the_refusal_leaves_no_traceback() -> None:
    class Gone:
        """A call that is over when it is aborted: grpc answers with an error of its own."""

        async def abort(self, *_: object) -> None:
            raise RuntimeError("execute_batch failed")

    async def refuse(self: object, request: object, context: object) -> None:
        raise BadRequest("no")

    with pytest.raises(asyncio.CancelledError):
        await responding(refuse)(None, None, Gone())
