"""The asyncio client over a real socket, against a fake server with scripted answers."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest

from alexnet_client.aio import AsyncClient
from alexnet_client.client import Client
from alexnet_client.errors import ClassifyError
from alexnet_client.fake import FakeServer
from tests.service.classifier_fake import telling

FULL = ClassifyError("RESOURCE_EXHAUSTED", "the queue is full", "overloaded", 0.01)


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with telling() as fake:
        yield fake


@pytest.fixture
async def client(fake: FakeServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(fake.address) as client:
        yield client


async def photos(*images: bytes) -> AsyncIterator[bytes]:
    for image in images:
        await asyncio.sleep(0)
        yield image


async def test_a_photo_is_answered(client: AsyncClient) -> None:
    answer = await client.classify(b"n01 n02 n03", top_k=2, request_id="mine")
    assert [p.synset for p in answer.predictions] == ["n01", "n02"]
    assert answer.request_id == "mine"


async def test_a_call_to_a_full_server_is_retried(fake: FakeServer, client: AsyncClient) -> None:
    fake.failures = [FULL, FULL]
    assert (await client.classify(b"n01")).attempts == 3
    assert len(fake.requests) == 3


async def test_no_other_failure_is_retried(fake: FakeServer, client: AsyncClient) -> None:
    with pytest.raises(ClassifyError) as caught:
        await client.classify(b"!INTERNAL internal error")
    assert (caught.value.code, caught.value.message) == ("INTERNAL", "internal error")
    assert (caught.value.attempts, len(fake.requests)) == (1, 1)


async def test_gRPCs_own_refusal_of_a_large_message_is_not_retried() -> None:  # noqa: N802
    with FakeServer(max_image_bytes=1 << 20) as fake:
        async with AsyncClient(fake.address) as client:
            with pytest.raises(ClassifyError, match="larger than max") as caught:
                await client.classify(bytes(2 << 20))
    assert (caught.value.code, caught.value.attempts) == ("RESOURCE_EXHAUSTED", 1)
    assert caught.value.reason == "too_large"


async def test_the_deadline_is_kept(fake: FakeServer, client: AsyncClient) -> None:
    fake.gate.clear()
    with pytest.raises(ClassifyError) as caught:
        await client.classify(b"n01", timeout_s=0.1)
    assert (caught.value.code, caught.value.attempts) == ("DEADLINE_EXCEEDED", 1)


async def test_many_photos_keep_their_order(client: AsyncClient) -> None:
    images = [b"n%02d" % i for i in range(20)]
    for source in (images, photos(*images)):
        answers = [image async for image, _ in client.classify_many(source, concurrency=3)]
        assert answers == images


async def test_a_stream_of_photos(fake: FakeServer, client: AsyncClient) -> None:
    images = [b"n%02d" % i for i in range(20)]
    fake.failures = [FULL]
    answers = [answer async for answer in client.classify_stream(photos(*images), window=3)]
    assert sorted(image for image, _ in answers) == images
    assert sorted(answer.attempts for _, answer in answers) == [1] * 19 + [2]
    assert fake.most_at_once <= 3


async def test_leaving_the_loop_cancels_the_calls(fake: FakeServer, client: AsyncClient) -> None:
    fake.gate.clear()
    for ask in (client.classify_many, client.classify_stream):
        fake.waiting.clear()
        async with aclosing(ask([b"n01"] * 9)) as answers:
            first = asyncio.create_task(anext(answers))
            assert await asyncio.to_thread(fake.waiting.wait, 10)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
    async with asyncio.timeout(10):
        while asyncio.all_tasks() != {asyncio.current_task()}:
            await asyncio.sleep(0.005)


async def test_model_and_readiness(fake: FakeServer, client: AsyncClient) -> None:
    assert await client.model() == fake.model
    assert await client.ready()
    fake.set_ready(False)
    assert not await client.ready()


async def test_two_event_loops_in_a_process_do_not_disturb_each_other(
    fake: FakeServer, client: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """gRPC used to log an error for each event taken by the other loop."""
    with Client(fake.address) as threaded:
        other = asyncio.to_thread(list, threaded.classify_many([b"n01"] * 300))
        mine = [answer async for answer in client.classify_many([b"n01"] * 300)]
        assert len(await other) == len(mine) == 300
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
