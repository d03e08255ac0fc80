"""Requests past their deadline, or whose caller has gone, never cost the engine anything."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from server import service
from server.models.sources import Source
from server.scheduler.job import Request
from tests.fakes import Fake, believe, faking, flat, flat_costs
from tests.uploads import uploading

FIRST, LATE, LAST = 250, 100, 25
PATIENT = {"x-request-timeout-ms": "9000"}


@asynccontextmanager
async def busy(**settings: Any) -> AsyncIterator[tuple[Fake, aiohttp.ClientSession, Any]]:
    """The engine holds one photo, FIRST; afterwards it has seen that one and LAST and no other."""
    async with (
        faking(**settings) as fake,
        aiohttp.ClientSession(fake.url) as session,
        grpc.aio.insecure_channel(fake.target) as channel,
    ):
        fake.engine.gate.clear()
        first = asyncio.create_task(status_of(session, FIRST, PATIENT))
        assert await asyncio.to_thread(fake.engine.started.wait, 5)
        yield fake, session, pb_grpc.ClassifierStub(channel)
        await fake.until_in_flight(1)
        fake.engine.gate.set()
        assert await first == 200
        assert await status_of(session, LAST, PATIENT) == 200
        assert fake.engine.batches == [[FIRST], [LAST]]


async def status_of(
    session: aiohttp.ClientSession, value: int, headers: dict[str, str] | None = None
) -> int:
    async with session.post("/v1/classify", data=flat(value), headers=headers) as response:
        return response.status


@asynccontextmanager
async def asking(fake: Fake) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(fake.target) as channel:
        yield pb_grpc.ClassifierStub(channel)


async def until_queued(fake: Fake, count: int) -> None:
    async with asyncio.timeout(5):
        while fake.count("alexnet_queue_photos") != count:
            await asyncio.sleep(0.005)


async def test_the_deadline_of_a_rest_request_is_kept() -> None:
    async with busy() as (fake, session, _):
        headers = {"x-request-timeout-ms": "50"}
        async with session.post("/v1/classify", data=flat(LATE), headers=headers) as response:
            assert response.status == 504
            error = (await response.json())["error"]
        assert error["code"] == "expired"
        assert "the deadline passed after" in error["message"]
        assert fake.count("alexnet_requests_total", face="rest", outcome="expired") == 1


async def test_the_deadline_of_a_grpc_call_is_kept() -> None:
    async with busy() as (fake, _, stub):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Classify(pb.ClassifyRequest(image=flat(LATE)), timeout=0.1)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await fake.until_in_flight(1)


async def test_a_request_that_names_no_deadline_has_the_servers() -> None:
    async with busy(request_timeout_s=0.1) as (_, session, stub):
        assert await status_of(session, LATE) == 504
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Classify(pb.ClassifyRequest(image=flat(LATE)))
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert dict(caught.value.trailing_metadata() or ())["alexnet-reason"] == "expired"


async def test_a_caller_may_be_more_patient_than_the_server() -> None:
    async with (
        faking(request_timeout_s=0.1) as fake,
        aiohttp.ClientSession(fake.url) as session,
        grpc.aio.insecure_channel(fake.target) as channel,
    ):
        fake.engine.gate.clear()
        request = pb.ClassifyRequest(image=flat(FIRST))
        call = pb_grpc.ClassifierStub(channel).Classify(request, timeout=9)
        await fake.until_in_flight(1)
        assert await status_of(session, LATE) == 504, "the server's own deadline has passed"
        fake.engine.gate.set()
        assert (await call).predictions[0].index == 9


async def test_a_timeout_of_nothing_is_expired_before_anything_is_done() -> None:
    async with busy() as (_, session, _):
        assert await status_of(session, LATE, {"x-request-timeout-ms": "0"}) == 504


async def test_what_expired_in_the_queue_is_counted_as_expired() -> None:
    async with busy() as (fake, session, _):
        late = asyncio.create_task(status_of(session, LATE, {"x-request-timeout-ms": "500"}))
        await until_queued(fake, 1)
        assert await late == 504
    assert fake.count("alexnet_dropped_total", reason="expired") == 1
    assert fake.count("alexnet_dropped_total", reason="cancelled") == 0


async def test_the_deadline_holds_while_the_photo_is_uploaded() -> None:
    """Or a few uploads that never finish would take every place for ever."""
    async with busy() as (fake, _, _), uploading(
        fake.url, flat(LATE), x_request_timeout_ms="100"
    ) as slow:  # fmt: skip
        await slow.send(stop=20)
        reply = await slow.reply()
        assert (reply.status, reply.json["error"]["code"]) == (504, "expired")


async def test_a_request_whose_caller_hangs_up_leaves_the_queue() -> None:
    async with busy() as (fake, session, _):
        task = asyncio.create_task(status_of(session, LATE))
        await until_queued(fake, 1)
        task.cancel()
        await fake.until_in_flight(1)
        assert fake.count("alexnet_requests_total", face="rest", outcome="cancelled") == 1
    assert fake.count("alexnet_dropped_total", reason="cancelled") == 1


async def test_a_cancelled_grpc_call_leaves_the_queue() -> None:
    async with busy() as (fake, _, stub):
        call = stub.Classify(pb.ClassifyRequest(image=flat(LATE)))
        await until_queued(fake, 1)
        call.cancel()
        await fake.until_in_flight(1)
        assert fake.count("alexnet_requests_total", face="grpc", outcome="cancelled") == 1
    assert fake.count("alexnet_dropped_total", reason="cancelled") == 1


async def test_a_closed_channel_takes_all_its_calls_out_of_the_queue() -> None:
    async with busy() as (fake, _, _):
        async with grpc.aio.insecure_channel(fake.target) as channel:
            stub = pb_grpc.ClassifierStub(channel)
            calls = [stub.Classify(pb.ClassifyRequest(image=flat(LATE))) for _ in range(5)]
            await until_queued(fake, 5)
        await fake.until_in_flight(1)
        assert all(call.cancelled() for call in calls)


async def test_an_upload_that_breaks_off_gives_its_place_back() -> None:
    async with busy() as (fake, _, _):
        async with uploading(fake.url, flat(LATE)) as broken:
            await broken.send(stop=20)
            await fake.until_in_flight(2)
        await fake.until_in_flight(1)


async def test_a_grpc_caller_whose_message_asks_for_more_time_than_the_servers_has_it() -> None:
    async with faking(request_timeout_s=1.0) as fake, asking(fake) as stub:
        believe(fake.pipeline, flat_costs(infer_ms=3000))
        with pytest.raises(grpc.aio.AioRpcError, match="the deadline was 1000 ms"):
            await stub.Classify(pb.ClassifyRequest(image=flat(LATE)))
        reply = await stub.Classify(pb.ClassifyRequest(image=flat(LAST), timeout_ms=60_000))
        assert reply.predictions[0].index == 1
        assert fake.engine.batches == [[LAST]]


async def test_a_call_that_names_a_version_is_not_judged_by_a_slower_one() -> None:
    async with faking() as fake, asking(fake) as stub:
        repository, first = fake.service.repository, fake.pipeline
        second = await repository._open(Source("2", Path(), ""), [])
        repository._exchange({"1": first, "2": second})
        believe(second, flat_costs(infer_ms=3000))
        with pytest.raises(grpc.aio.AioRpcError, match="takes about 3001 ms here"):
            await stub.Classify(pb.ClassifyRequest(image=flat(LATE)), timeout=2)
        request = pb.ClassifyRequest(image=flat(LAST), version="1")
        assert (await stub.Classify(request, timeout=2)).model.version == "1"
        assert fake.engine.batches == [[LAST]]


async def test_a_hopeless_grpc_call_is_refused_before_its_message_is_there() -> None:
    async with faking() as fake, grpc.aio.insecure_channel(fake.target) as channel:
        believe(fake.pipeline, flat_costs(infer_ms=60_000))
        method: Any = channel.stream_unary("/alexnet.v1.Classifier/Classify")
        call = method(timeout=30)
        with pytest.raises(grpc.aio.AioRpcError, match="takes about 60001 ms here"):
            await asyncio.wait_for(call, 5)


@pytest.mark.parametrize("face", ["raw", "form", "grpc", "grpc-stream", "oip"])
async def test_what_was_refused_is_forgotten_at_once(
    face: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or refused photos lie about, counted nowhere, until the garbage is collected: an error leads
    to where it came from, and nothing there may lead to the error."""
    left: list[weakref.ref[Request]] = []

    class Watched(Request):
        def __init__(self, *fields: Any, **more: Any):
            super().__init__(*fields, **more)
            left.append(weakref.ref(self))

    monkeypatch.setattr(service, "Request", Watched)
    async with faking() as fake, asking(fake) as stub, aiohttp.ClientSession(fake.url) as session:
        gc.disable()
        try:
            reason = await refused(face, stub, session)
            async with asyncio.timeout(2):
                while any(each() for each in left):
                    await asyncio.sleep(0.005)
        finally:
            gc.enable()
        assert reason == "unsupported_format"
        assert left


async def refused(face: str, stub: Any, session: aiohttp.ClientSession) -> str:
    """Why the server takes no text."""
    text = b"this is no photo"
    request = pb.ClassifyRequest(image=text)
    if face == "grpc":
        try:
            await stub.Classify(request)
        except grpc.aio.AioRpcError as error:
            return str(dict(error.trailing_metadata() or ())["alexnet-reason"])
    if face == "grpc-stream":
        (answer,) = [answer async for answer in stub.ClassifyStream(iter([request]))]
        return str(answer.failure.reason)
    path, data, headers = "/v1/classify", aiohttp.FormData(), {}
    data.add_field("file", text, filename="a.png")
    if face == "oip":
        path = "/v2/models/tiny/infer"
        headers["inference-header-content-length"] = "0"
    async with session.post(path, data=data if face == "form" else text, headers=headers) as reply:
        if face == "oip":
            return "unsupported_format" if reply.status == 415 else str(reply.status)
        return str((await reply.json())["error"]["code"])
