"""The id of a request stands in the log beside what happened; one that could break a line is
replaced, alike in HTTP and gRPC."""

import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import grpc
import pytest

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from protos import oip_pb2_grpc
from server.telemetry.logs import JsonFormatter
from tests.fakes import Fake, flat
from tests.service import oip_asking

OURS = r"[0-9a-f]{32}"
BAD_IDS = ["two words", "a,b", "a" * 129, "semi;colon", '"quoted"']
PATHS = {"/v1/classify": 200, "/v2/models/tiny/infer": 400, "/nowhere": 404}
METHODS = [
    "alexnet.v1.Classifier/Classify",
    "alexnet.v1.Classifier/ClassifyStream",
    "alexnet.v1.Classifier/GetModel",
    "inference.GRPCInferenceService/ModelInfer",
    "inference.GRPCInferenceService/ModelStreamInfer",
    "inference.GRPCInferenceService/ServerLive",
    "grpc.health.v1.Health/Check",
]


@pytest.fixture
def log() -> Iterator[list[dict[str, Any]]]:
    """What the server logs of errors, line by line."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(json.loads(self.format(record)))

    said: list[dict[str, Any]] = []
    handler = Lines(logging.ERROR)
    handler.setFormatter(JsonFormatter())
    logging.getLogger("server").addHandler(handler)
    yield said
    logging.getLogger("server").removeHandler(handler)


def named(request_id: str) -> tuple[tuple[str, str], ...]:
    return (("x-request-id", request_id),)


async def over_http(fake: Fake, path: str, body: bytes, headers: dict[str, str]) -> None:
    async with (
        aiohttp.ClientSession(fake.url) as session,
        session.post(path, data=body, headers=headers) as response,
    ):
        assert response.status == 500
        assert response.headers["x-request-id"] == headers["x-request-id"]


async def rest(fake: Fake, request_id: str) -> None:
    await over_http(fake, "/v1/classify", flat(50), dict(named(request_id)))


async def oip_rest(fake: Fake, request_id: str) -> None:
    body, headers = oip_asking.body([flat(50)])
    await over_http(fake, "/v2/models/tiny/infer", body, headers | dict(named(request_id)))


async def over_grpc(fake: Fake, request_id: str) -> None:
    async with grpc.aio.insecure_channel(fake.target) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="internal error"):
            await pb_grpc.ClassifierStub(channel).Classify(
                pb.ClassifyRequest(image=flat(50)), metadata=named(request_id)
            )


async def oip_grpc(fake: Fake, request_id: str) -> None:
    async with grpc.aio.insecure_channel(fake.target) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="internal error"):
            await oip_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(
                oip_asking.request([flat(50)]), metadata=named(request_id)
            )


@pytest.mark.parametrize("ask", [rest, oip_rest, over_grpc, oip_grpc])
async def test_what_is_logged_of_a_request_has_its_id(
    fake: Fake,
    log: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[Fake, str], Awaitable[None]],
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr(fake.service, "classify", broken)
    for request_id in ("trace-42", "a/b:c.d_e+f=g@h"):
        await ask(fake, request_id)
    assert [line["request_id"] for line in log] == ["trace-42", "a/b:c.d_e+f=g@h"]
    assert all("LookupError: a bug" in line["traceback"] for line in log)


async def test_the_message_of_a_photo_may_name_another_id_than_its_call(
    channel: grpc.aio.Channel,
) -> None:
    stub = pb_grpc.ClassifierStub(channel)
    for own, expected in (("", "call-1"), ("photo-1", "photo-1")):
        request = pb.ClassifyRequest(image=flat(50), request_id=own)
        assert (await stub.Classify(request, metadata=named("call-1"))).request_id == expected


async def test_a_request_without_an_id_gets_one_of_its_own(
    session: aiohttp.ClientSession, channel: grpc.aio.Channel
) -> None:
    found = []
    for _ in range(2):
        async with session.post("/v1/classify", data=flat(50)) as response:
            found.append(response.headers["x-request-id"])
        request = pb.ClassifyRequest(image=flat(50))
        found.append((await pb_grpc.ClassifierStub(channel).Classify(request)).request_id)
    assert all(re.fullmatch(OURS, each) for each in found)
    assert len(set(found)) == 4


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("bad", BAD_IDS)
async def test_a_bad_id_is_replaced_over_http(
    session: aiohttp.ClientSession, path: str, bad: str
) -> None:
    async with session.post(path, data=flat(50), headers=dict(named(bad))) as response:
        assert response.status == PATHS[path]
        assert re.fullmatch(OURS, response.headers["x-request-id"])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", BAD_IDS)
async def test_a_bad_id_is_no_reason_to_refuse_over_grpc(
    channel: grpc.aio.Channel, method: str, bad: str
) -> None:
    streams = "Stream" in method
    kind: Any = channel.stream_stream if streams else channel.unary_unary
    call = kind(f"/{method}")(*([] if streams else [b""]), metadata=named(bad))
    if streams:
        await call.done_writing()
    assert "request id" not in (await call.details() or "")


async def test_a_bad_id_in_a_message_is_replaced_and_a_stream_keeps_it_to_match_answers_by(
    channel: grpc.aio.Channel,
) -> None:
    stub = pb_grpc.ClassifierStub(channel)
    bad = pb.ClassifyRequest(image=flat(50), request_id="two words")
    assert re.fullmatch(OURS, (await stub.Classify(bad)).request_id)
    (answer,) = [each async for each in stub.ClassifyStream(iter([bad]))]
    assert answer.request_id == "two words"
    assert re.fullmatch(OURS, answer.response.request_id)
