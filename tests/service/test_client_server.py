"""The client against the real server."""

import asyncio
from contextlib import aclosing

import pytest

from alexnet.bundle import Bundle
from alexnet_client.aio import AsyncClient
from alexnet_client.client import Client
from alexnet_client.errors import ClassifyError
from alexnet_client.results import Classification
from tests.fakes import faking, flat
from tests.paths import STARTER
from tests.photos import jpeg
from tests.processes import ServerProcess


@pytest.mark.process
def test_a_photo_the_model_and_readiness(server: ServerProcess) -> None:
    with Client(server.grpc) as client:
        assert client.ready()
        model = client.model()
        answer = client.classify(jpeg(), top_k=3, request_id="mine", priority=1)
        assert client.classify(jpeg(), version=model.version).model == answer.model
    manifest = Bundle.open(STARTER).manifest
    known, crop = manifest.model.known_classes, manifest.preprocess.crop
    assert (model.name, model.known_classes, model.crop) == ("alexnet", known, crop)
    assert model.version in model.versions
    assert (answer.model.version, answer.model.build) == (model.version, model.build)
    assert (len(answer.predictions), answer.request_id) == (3, "mine")
    assert answer.image.format == "JPEG"
    assert answer.timing.batch_size == 1


@pytest.mark.process
def test_a_stream_answers_each_photo_or_gives_the_reason(server: ServerProcess) -> None:
    images = [jpeg(width=64 + i, height=48) for i in range(20)]
    with Client(server.grpc) as client:
        answers = dict(client.classify_stream([*images, b"text"], window=6, top_k=1))
    failed = answers.pop(b"text")
    assert isinstance(failed, ClassifyError)
    assert (failed.code, failed.reason) == ("INVALID_ARGUMENT", "unsupported_format")
    widths = {image: 64 + i for i, image in enumerate(images)}
    for image, answer in answers.items():
        assert isinstance(answer, Classification)
        assert answer.image.width == widths[image]
    assert len(answers) == 20


@pytest.mark.process
def test_errors_carry_the_servers_reasons(server: ServerProcess) -> None:
    with Client(server.grpc) as client:
        for options, code, reason in (
            ({"version": "404"}, "NOT_FOUND", "not_found"),
            ({"top_k": 0}, "INVALID_ARGUMENT", "invalid_argument"),
        ):
            with pytest.raises(ClassifyError) as caught:
                client.classify(jpeg(), **options)
            assert (caught.value.code, caught.value.reason) == (code, reason)


@pytest.mark.parametrize("face", ["grpc", "grpc-stream"])
async def test_a_call_to_a_full_queue_is_retried_when_the_server_advises(face: str) -> None:
    async with faking(max_queue_size=1) as fake, AsyncClient(fake.target) as client:
        fake.engine.gate.clear()
        first = asyncio.create_task(client.classify(flat(250)))
        await fake.until_in_flight(1)
        ask = client.classify_many if face == "grpc" else client.classify_stream
        async with aclosing(ask([flat(100)])) as answers:
            second = asyncio.create_task(anext(answers))
            async with asyncio.timeout(10):
                while not fake.count("alexnet_requests_total", face=face, outcome="overloaded"):
                    await asyncio.sleep(0.005)
            fake.engine.gate.set()
            _, answer = await second
        assert isinstance(answer, Classification)
        assert answer.attempts > 1
        assert (answer.top1.index, (await first).top1.index) == (4, 9)
