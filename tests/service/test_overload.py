"""More than the server can take: refused at once with a hint, bounded in memory, never mixed up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from server.service import State
from tests.fakes import Fake, faking, flat
from tests.uploads import Reply, uploading


async def post(session: aiohttp.ClientSession, value: int) -> tuple[int, dict[str, Any]]:
    async with session.post("/v1/classify", data=flat(value)) as response:
        return response.status, await response.json()


async def refused_on_grpc(fake: Fake) -> grpc.aio.AioRpcError:
    async with grpc.aio.insecure_channel(fake.target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await pb_grpc.ClassifierStub(channel).Classify(pb.ClassifyRequest(image=flat(0)))
    return caught.value


async def refused_on_rest(fake: Fake) -> Reply:
    """Sends the head of a request only."""
    async with uploading(fake.url, flat(0)) as upload:
        return await upload.reply()


@asynccontextmanager
async def full(places: int) -> AsyncIterator[Fake]:
    """A server with every place taken, by photos that the engine holds; they are answered after."""
    async with faking(max_queue_size=places) as fake, aiohttp.ClientSession(fake.url) as session:
        fake.engine.gate.clear()
        tasks = [asyncio.create_task(post(session, 25 * i)) for i in range(places)]
        await fake.until_in_flight(places)
        yield fake
        fake.engine.gate.set()
        for i, (status, body) in enumerate(await asyncio.gather(*tasks)):
            assert (status, body["predictions"][0]["index"]) == (200, i)


async def test_a_full_server_refuses_over_rest_at_once_and_before_the_body() -> None:
    async with full(3) as fake:
        reply = await refused_on_rest(fake)
        assert reply.status == 429
        assert reply.json["error"]["code"] == "overloaded"
        assert "all 3 places are taken" in reply.json["error"]["message"]
        assert int(reply.headers["retry-after"]) >= 1
        assert fake.count("alexnet_requests_total", face="rest", outcome="overloaded") == 1


async def test_a_full_server_refuses_over_grpc_at_once_with_grpcs_own_hint() -> None:
    async with full(3) as fake:
        error = await refused_on_grpc(fake)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        trailers = dict(error.trailing_metadata() or ())
        assert trailers["alexnet-reason"] == "overloaded"
        assert int(trailers["grpc-retry-pushback-ms"]) >= 1
        assert fake.count("alexnet_requests_total", face="grpc", outcome="overloaded") == 1


async def test_a_full_server_refuses_the_one_file_of_a_form() -> None:
    async with full(1) as fake, aiohttp.ClientSession(fake.url) as session:
        form = aiohttp.FormData()
        form.add_field("file", flat(0), filename="a.png")
        async with session.post("/v1/classify", data=form) as response:
            assert response.status == 429
            assert int(response.headers["retry-after"]) >= 1


async def test_a_full_server_is_ready_and_healthy() -> None:
    """It will have a place again in a moment: restarting it would not help."""
    async with full(2) as fake, aiohttp.ClientSession(fake.url) as session:
        async with session.get("/readyz") as response:
            assert response.status == 200
        async with grpc.aio.insecure_channel(fake.target) as channel:
            reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        async with session.get("/v1/models") as response:
            assert response.status == 200


async def test_a_place_is_free_again_after_the_answer() -> None:
    async with full(1) as fake, aiohttp.ClientSession(fake.url) as session:
        assert (await post(session, 0))[0] == 429
        fake.engine.gate.set()
        await fake.until_in_flight(0)
        assert (await post(session, 0))[0] == 200


async def test_a_slow_upload_does_not_block_the_others() -> None:
    async with faking() as fake, uploading(fake.url, flat(225)) as slow:
        await slow.send(stop=20)
        await fake.until_in_flight(1)
        async with aiohttp.ClientSession(fake.url) as session:
            for value in (0, 100):
                status, body = await post(session, value)
                assert (status, body["predictions"][0]["index"]) == (200, value // 25)
        await slow.send(start=20)
        reply = await slow.reply()
        assert (reply.status, reply.json["predictions"][0]["index"]) == (200, 9)


@pytest.mark.parametrize("form", [False, True], ids=["raw", "form"])
async def test_slow_uploads_hold_as_many_places_as_there_are_and_no_more(form: bool) -> None:
    body, content_type = flat(0), "application/octet-stream"
    if form:
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
        body, content_type = head + body + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"
    async with faking(max_queue_size=3) as fake:
        async with (
            uploading(fake.url, body, content_type) as first,
            uploading(fake.url, body, content_type) as second,
            uploading(fake.url, body, content_type) as third,
        ):
            for slow in (first, second, third):
                await slow.send(stop=-20)
            await fake.until_in_flight(3)
            assert (await refused_on_rest(fake)).status == 429
            assert (await refused_on_grpc(fake)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert fake.count("alexnet_requests_in_flight") == 3
            await first.send(start=-20)
            assert (await first.reply()).status == 200
        await fake.until_in_flight(0)
        async with aiohttp.ClientSession(fake.url) as session:
            assert (await post(session, 50))[0] == 200
        assert fake.count("alexnet_requests_total", face="rest", outcome="cancelled") == 2


async def test_an_upload_of_exactly_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    """PNG readers stop at the end of the image: what follows is only weight."""
    limit = 100_000
    photo = flat(75).ljust(limit, b"\0")
    async with faking(max_request_bytes=limit) as fake:
        async with aiohttp.ClientSession(fake.url) as session:
            for body, status in ((photo, 200), (photo + b"\0", 413)):
                async with session.post("/v1/classify", data=body) as response:
                    assert response.status == status
        async with grpc.aio.insecure_channel(fake.target) as channel:
            stub = pb_grpc.ClassifierStub(channel)
            reply = await stub.Classify(pb.ClassifyRequest(image=photo))
            assert reply.predictions[0].index == 3
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Classify(pb.ClassifyRequest(image=photo + b"\0"))
            assert dict(caught.value.trailing_metadata() or ())["alexnet-reason"] == "too_large"
        assert fake.engine.batches == [[75], [75]]


async def test_a_stopping_server_admits_nothing_and_answers_what_was_admitted() -> None:
    async with full(2) as fake:
        drained = asyncio.create_task(fake.service.drain(5))
        while fake.service.state is not State.STOPPING:
            await asyncio.sleep(0)
        reply = await refused_on_rest(fake)
        assert (reply.status, reply.json["error"]["code"]) == (503, "not_ready")
        assert (await refused_on_grpc(fake)).code() is grpc.StatusCode.UNAVAILABLE
        async with aiohttp.ClientSession(fake.url) as session:
            async with session.get("/readyz") as response:
                assert response.status == 503
                assert await response.json() == {"ready": False, "state": "stopping"}
            async with session.get("/livez") as response:
                assert response.status == 200
        assert not drained.done()
        fake.engine.gate.set()
        assert await drained


async def test_a_form_under_way_when_the_server_stops_is_answered() -> None:
    form = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="%d.png"\r\n\r\n%s\r\n'
        % (value, flat(value))
        for value in (25, 75, 200)
    )
    async with faking() as fake:
        content_type = "multipart/form-data; boundary=x"
        async with uploading(fake.url, form + b"--x--\r\n", content_type) as upload:
            await upload.send(stop=-20)
            await fake.until_in_flight(1)
            drained = asyncio.create_task(fake.service.drain(5))
            while fake.service.state is not State.STOPPING:
                await asyncio.sleep(0)
            fake.engine.gate.clear()
            await upload.send(start=-20)
            assert await asyncio.to_thread(fake.engine.started.wait, 5)
            assert not drained.done()
            fake.engine.gate.set()
            files = (await upload.reply()).json["files"]
        assert [(f["status"], f["predictions"][0]["index"]) for f in files] == [
            (200, 1), (200, 3), (200, 8),
        ]  # fmt: skip
        assert await drained


async def test_the_photos_of_a_form_share_its_deadline() -> None:
    async with faking(request_timeout_s=60) as fake, aiohttp.ClientSession(fake.url) as session:
        form = aiohttp.FormData()
        for value in (25, 75):
            form.add_field("file", flat(value), filename="a.png")
        fake.engine.gate.clear()
        headers = {"x-request-timeout-ms": "100"}
        async with session.post("/v1/classify", data=form, headers=headers) as response:
            files = (await response.json())["files"]
        assert [f["status"] for f in files] == [504, 504]
        await fake.until_in_flight(0)


async def test_a_drain_that_takes_too_long_gives_up() -> None:
    async with full(1) as fake:
        assert not await fake.service.drain(0.05)
