"""What goes wrong: a clear answer without secrets, the traceback in the log, and back to work."""

import logging
from typing import Any

import aiohttp
import grpc
import pytest
from google.rpc import status_pb2

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from server.errors import ERRORS, EngineFailure, NotFound, Overloaded, ServeError, WouldMiss
from tests.fakes import Fake, flat
from tests.service.oip_asking import Refused, ask

SECRET = "a secret of the service"


async def post(session: aiohttp.ClientSession, value: int = 75) -> tuple[int, dict[str, Any]]:
    async with session.post("/v1/classify", data=flat(value)) as response:
        return response.status, await response.json()


async def call_fails(channel: grpc.aio.Channel) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await pb_grpc.ClassifierStub(channel).Classify(pb.ClassifyRequest(image=flat(75)))
    return caught.value


async def readiness(session: aiohttp.ClientSession) -> int:
    async with session.get("/readyz") as response:
        assert (await response.json())["ready"] is (response.status == 200)
        return response.status


async def test_an_engine_that_fails_is_an_internal_error_without_its_words(
    fake: Fake,
    session: aiohttp.ClientSession,
    channel: grpc.aio.Channel,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake.engine.fail = True
    status, body = await post(session)
    assert (status, body["error"]["code"]) == (500, "engine")
    assert body["error"]["message"].startswith("internal error")
    error = await call_fails(channel)
    assert error.code() is grpc.StatusCode.INTERNAL
    assert (error.details() or "").startswith("internal error")
    assert "secret" not in f"{body}{error}"
    assert caplog.text.count("RuntimeError: a secret of the engine") == 2
    for face in ("rest", "grpc"):
        assert fake.count("alexnet_requests_total", face=face, outcome="engine") == 1


async def test_an_engine_that_keeps_failing_is_not_ready_until_it_succeeds(
    fake: Fake, session: aiohttp.ClientSession
) -> None:
    fake.engine.fail = True
    for failures in (1, 2, 3):
        assert (await post(session))[0] == 500
        assert await readiness(session) == (503 if failures == 3 else 200)
        assert fake.count("alexnet_ready") == (failures < 3)
    async with session.get("/readyz") as response:
        assert await response.json() == {"ready": False, "state": "engine"}
    fake.engine.fail = False
    assert (await post(session))[0] == 200, "not ready is advice: a request that comes is served"
    assert await readiness(session) == 200


def broken(*_: object, **__: object) -> None:
    raise LookupError(SECRET)


@pytest.mark.parametrize(
    "place", ["server.api.messages.top_k", "server.scheduler.decoder.preprocess"]
)
async def test_a_bug_is_an_internal_error_with_its_traceback_in_the_log(
    fake: Fake,
    session: aiohttp.ClientSession,
    channel: grpc.aio.Channel,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(place, broken)
        status, body = await post(session)
        error = await call_fails(channel)
    assert (status, body["error"]) == (500, {"code": "internal", "message": "internal error"})
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")
    assert caplog.text.count("Traceback (most recent call last)") == 2
    assert caplog.text.count(f"LookupError: {SECRET}") == 2
    for face in ("rest", "grpc"):
        assert fake.count("alexnet_requests_total", face=face, outcome="internal") == 1
    assert (await post(session))[0] == 200
    assert await readiness(session) == 200


async def test_a_bug_in_another_handler_is_answered_in_the_same_words(
    session: aiohttp.ClientSession,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.api.classify_http.version", broken)
    async with session.get("/v1/models") as response:
        assert response.status == 500
        assert (await response.json())["error"]["message"] == "internal error"
    assert f"LookupError: {SECRET}" in caplog.text


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: str(kind.reason))
async def test_every_error_is_answered_in_each_protocol_as_the_table_says(
    fake: Fake,
    session: aiohttp.ClientSession,
    channel: grpc.aio.Channel,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[ServeError],
) -> None:
    error = kind() if kind is EngineFailure else kind("what is wrong")
    later = kind in (Overloaded, WouldMiss)  # the others say nothing of another try
    error.retry_after_s = 2.0 if later else None

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(fake.service, "classify", refuse)
    status, body = await post(session)
    retry = {"retry_after_ms": 2000} if later else {}
    expected = {"code": kind.reason, "message": str(error), **retry}
    assert (status, body["error"]) == (kind.http, expected)
    answer = await call_fails(channel)
    assert (answer.code(), answer.details()) == (grpc.StatusCode[kind.grpc], str(error))
    trailers = dict(answer.trailing_metadata() or ())
    assert trailers["alexnet-reason"] == kind.reason
    assert trailers.get("grpc-retry-pushback-ms") == ("2000" if later else None)
    details = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert details.code == answer.code().value[0]
    for face, expected_status in (("rest", str(kind.http)), ("grpc", kind.grpc)):
        with pytest.raises(Refused) as caught:
            await ask(face, fake, [flat(75)])
        assert (caught.value.status, caught.value.retry) == (expected_status, later)
        assert str(error) in caught.value.message
    for face in ("rest", "grpc", "oip-rest", "oip-grpc"):
        assert fake.count("alexnet_requests_total", face=face, outcome=kind.reason) == 1
    failed = fake.count("nv_inference_request_failure", model="tiny", reason=kind.triton)
    assert failed == (0 if kind is NotFound else 4), "a version that is not there is no model's"


async def test_bytes_that_are_no_message_are_the_senders_fault(
    fake: Fake, channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    """An error for the sender, but no traceback: the log would be full of them."""
    call: Any = channel.unary_unary("/alexnet.v1.Classifier/Classify")
    with pytest.raises(grpc.aio.AioRpcError, match=r"no alexnet\.v1\.ClassifyRequest"):
        await call(b"\xff\xff\xff")
    assert "Traceback" not in caplog.text
    assert all(record.levelno < logging.ERROR for record in caplog.records)
    stub = pb_grpc.ClassifierStub(channel)
    assert (await stub.Classify(pb.ClassifyRequest(image=flat(75)))).predictions[0].index == 3


async def test_what_is_not_at_the_metrics_port_is_told_what_is_there(
    fake: Fake, session: aiohttp.ClientSession
) -> None:
    async with session.get(f"{fake.private_url}/docs") as response:
        message = (await response.json())["error"]["message"]
    assert (response.status, message) == (
        404, "there is nothing at /docs; see /livez, /readyz, /metrics"
    )  # fmt: skip
