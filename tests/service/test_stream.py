"""Many photos over one call: answered as they are ready, bounded, and never mixed up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from server.api.classify_grpc import Classifier
from server.service import STREAM_BATCHES
from tests.fakes import Fake, faking, flat
from tests.photos import jpeg
from tests.processes import ServerProcess


def photo(value: int, **fields: Any) -> pb.ClassifyRequest:
    return pb.ClassifyRequest(image=flat(value), request_id=str(value), **fields)


@asynccontextmanager
async def streaming(fake: Fake) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(fake.target) as channel:
        call = pb_grpc.ClassifierStub(channel).ClassifyStream()
        yield call
        call.cancel()


async def answers(call: Any) -> dict[str, Any]:
    """By request id, to the end of the stream."""
    async with asyncio.timeout(10):
        return {answer.request_id: answer async for answer in call}


async def test_every_photo_of_a_stream_is_answered_under_its_own_id() -> None:
    async with faking(max_batch_size=4) as fake, streaming(fake) as call:
        for value in range(0, 250, 2):
            await call.write(photo(value))
        await call.done_writing()
        found = await answers(call)
        assert len(found) == 125
        for name, answer in found.items():
            assert answer.response.request_id == name
            assert answer.response.predictions[0].index == int(name) // 25
        assert fake.count("alexnet_requests_total", face="grpc-stream", outcome="ok") == 125
        assert await call.code() is grpc.StatusCode.OK


async def test_answers_come_as_they_are_ready_and_not_at_the_end() -> None:
    async with faking() as fake, streaming(fake) as call:
        await call.write(photo(50))
        first = await asyncio.wait_for(call.read(), 5)
        assert first.response.predictions[0].index == 2
        await call.write(photo(100))
        second = await asyncio.wait_for(call.read(), 5)
        assert second.request_id == "100"


async def test_a_photo_that_fails_does_not_end_the_stream() -> None:
    async with faking() as fake, streaming(fake) as call:
        await call.write(pb.ClassifyRequest(image=b"text", request_id="bad"))
        await call.write(pb.ClassifyRequest(image=flat(0), request_id="far", top_k=99))
        await call.write(photo(50))
        await call.done_writing()
        found = await answers(call)
        assert found["50"].response.predictions[0].index == 2
        assert found["bad"].failure.reason == "unsupported_format"
        assert found["bad"].failure.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert found["far"].failure.reason == "invalid_argument"
        assert "between 1 and 10" in found["far"].failure.message
        assert await call.code() is grpc.StatusCode.OK


async def test_each_photo_has_its_own_deadline() -> None:
    async with faking() as fake, streaming(fake) as call:
        fake.engine.gate.clear()
        await call.write(photo(25, timeout_ms=50))
        await call.write(photo(50))
        first = await asyncio.wait_for(call.read(), 5)
        assert (first.request_id, first.failure.reason) == ("25", "expired")
        fake.engine.gate.set()
        second = await asyncio.wait_for(call.read(), 5)
        assert second.response.predictions[0].index == 2


async def test_a_sender_that_is_too_fast_is_stopped_and_memory_is_bounded() -> None:
    """While nothing is answered, no more is read than the window; the rest waits at the sender."""
    size = 100_000
    async with faking(max_batch_size=2, request_timeout_s=60) as fake, streaming(fake) as call:
        fake.engine.gate.clear()
        window = STREAM_BATCHES * 2
        sent = 0

        async def send() -> None:
            nonlocal sent
            for _ in range(200):
                await call.write(pb.ClassifyRequest(image=flat(50) + bytes(size)))
                sent += 1
            await call.done_writing()

        sending = asyncio.create_task(send())
        await fake.until_in_flight(window)
        stuck = -1
        while stuck != sent:  # until flow control holds the sender
            stuck = sent
            await asyncio.sleep(0.2)
        assert stuck < 100, "200 photos went into a server that answers none"
        assert fake.count("alexnet_requests_in_flight") == window
        assert fake.count("alexnet_photo_bytes") < window * 2 * size
        fake.engine.gate.set()
        found = 0
        async with asyncio.timeout(20):
            async for answer in call:
                found += answer.response.predictions[0].index == 2
        assert found == 200
        await sending


async def test_a_stream_whose_answers_are_not_read_is_not_read_from_either() -> None:
    """Without the network in between, which holds some answers too."""
    async with faking(max_batch_size=2) as fake:
        sent = 0

        async def requests() -> AsyncIterator[pb.ClassifyRequest]:
            nonlocal sent
            for value in range(0, 250, 5):
                sent += 1
                yield photo(value)

        context: Any = SimpleNamespace(time_remaining=lambda: None)
        stream = Classifier(fake.service).ClassifyStream(requests(), context)
        found = [await anext(stream)]
        async with asyncio.timeout(5):
            while fake.count("alexnet_requests_total", outcome="ok") < fake.service.stream_window:
                await asyncio.sleep(0.005)
        window = fake.service.stream_window
        for _ in range(20):  # others are answered: the stream could be read from meanwhile
            with fake.service.admit("test") as admitted:
                await fake.service.classify(admitted, flat(0))
        assert fake.count("alexnet_requests_total", face="grpc-stream") == window
        assert sent == window + 1
        found += [answer async for answer in stream]
        assert sorted(int(answer.request_id) for answer in found) == [*range(0, 250, 5)]


@pytest.mark.parametrize("places", [1, 16])
async def test_a_stream_leaves_half_of_the_places_to_others(places: int) -> None:
    async with faking(max_batch_size=32, max_queue_size=places) as fake, streaming(fake) as call:
        fake.engine.gate.clear()
        sending = asyncio.create_task(call.write(photo(0)))
        for value in range(1, 100):
            await sending
            sending = asyncio.create_task(call.write(photo(value)))
        await fake.until_in_flight(max(1, places // 2))
        fake.engine.gate.set()
        await sending
        await call.done_writing()
        found = await answers(call)
        assert [*found.values()] == [a for a in found.values() if a.HasField("response")]
        assert len(found) == 100


async def test_a_stream_that_is_cancelled_leaves_the_queue() -> None:
    async with faking(max_batch_size=1) as fake:
        async with streaming(fake) as call:
            fake.engine.gate.clear()
            await call.write(photo(0))
            assert await asyncio.to_thread(fake.engine.started.wait, 5)
            await call.write(photo(25))  # now, or its decoder might be the quicker of the two
            await fake.until_in_flight(2)
        await fake.until_in_flight(0)
        fake.engine.gate.set()
        assert fake.count("alexnet_queue_photos") == 0
        assert fake.engine.batches == [[0]]
        assert fake.count("alexnet_dropped_total", reason="cancelled") == 1


async def test_the_deadline_of_the_call_is_the_deadline_of_its_photos() -> None:
    async with faking() as fake, grpc.aio.insecure_channel(fake.target) as channel:
        fake.engine.gate.clear()
        call = pb_grpc.ClassifierStub(channel).ClassifyStream(iter([photo(50)]), timeout=0.3)
        # Both end at the same moment: either the answer wins or the end of the call.
        with suppress(grpc.aio.AioRpcError):
            (answer,) = (await answers(call)).values()
            assert answer.failure.reason == "expired"
        assert await call.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.OK)
        await fake.until_in_flight(0)
        assert fake.count("alexnet_requests_total", face="grpc-stream", outcome="ok") == 0


async def test_bytes_that_are_no_request_are_told_so_and_end_the_stream() -> None:
    async with faking() as fake, grpc.aio.insecure_channel(fake.target) as channel:
        method: Any = channel.stream_stream(
            "/alexnet.v1.Classifier/ClassifyStream",
            response_deserializer=pb.ClassifyStreamResponse.FromString,
        )
        found = await answers(method(iter([photo(50).SerializeToString(), b"\xff\xff\xff"])))
        assert found["50"].response.predictions[0].index == 2
        assert found[""].failure.reason == "invalid_argument"


@pytest.mark.process
async def test_the_real_server_streams(server: ServerProcess) -> None:
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        stub = pb_grpc.ClassifierStub(channel)
        alone = await stub.Classify(pb.ClassifyRequest(image=jpeg()))
        call = stub.ClassifyStream()
        for i in range(20):
            await call.write(pb.ClassifyRequest(image=jpeg(), request_id=str(i)))
        await call.done_writing()
        found = await answers(call)
    assert sorted(map(int, found)) == list(range(20))
    for answer in found.values():
        assert answer.response.predictions[0].synset == alone.predictions[0].synset
        assert answer.response.model == alone.model
