"""The access log: a line for each request, whatever became of it; and the metrics count what was
refused."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import grpc
import pytest

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from protos import oip_pb2_grpc
from tests.access_lines import AccessLines, access_lines
from tests.fakes import Fake, faking, flat
from tests.service import oip_asking

SMALL = 1 << 18


@pytest.fixture
def log() -> Iterator[AccessLines]:
    with access_lines() as log:
        yield log


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    async with faking(access_log="all", max_request_bytes=SMALL) as fake:
        yield fake


async def test_a_line_says_what_came_and_what_became_of_it(
    session: aiohttp.ClientSession, log: AccessLines
) -> None:
    photo = flat(50)
    path = "/v1/classify?top_k=3"
    async with session.post(path, data=photo, headers={"x-request-id": "mine"}) as response:
        assert response.status == 200
    (line,) = log.lines
    assert line["request_id"] == "mine"
    assert line["peer"].startswith("127.0.0.1:")
    assert (line["face"], line["method"], line["path"]) == ("rest", "POST", "/v1/classify")
    assert (line["status"], line["reason"], line["version"]) == ("200", "ok", "1")
    assert line["bytes"] == len(photo)
    assert line["photos"] == [{"bytes": len(photo), "format": "PNG", "width": 8, "height": 8}]
    assert line["batch_size"] == 1
    stages = line["stages_ms"]
    assert list(stages) == ["upload", "decode_queue", "decode", "batch_queue", "infer"]
    assert 0 < sum(stages.values()) <= line["ms"] + 0.1
    assert line["message"] == "POST /v1/classify 200"
    assert "top_k" not in json.dumps(line), "a query may hold a secret"


async def test_each_face_has_its_lines(
    session: aiohttp.ClientSession, channel: grpc.aio.Channel, log: AccessLines
) -> None:
    classifier, oip = (
        pb_grpc.ClassifierStub(channel),
        oip_pb2_grpc.GRPCInferenceServiceStub(channel),
    )
    photo = pb.ClassifyRequest(image=flat(50), request_id="own")
    await classifier.Classify(photo)
    assert len([each async for each in classifier.ClassifyStream(iter([photo] * 2))]) == 2
    asked = oip_asking.request([flat(50)])
    await oip.ModelInfer(asked)
    assert len([each async for each in oip.ModelStreamInfer(iter([asked]))]) == 1
    body, headers = oip_asking.body([flat(50)])
    async with session.post("/v2/models/tiny/infer", data=body, headers=headers) as response:
        assert response.status == 200
    service, inference = "/alexnet.v1.Classifier/", "/inference.GRPCInferenceService/"
    assert log.of("face", "method", "status", "batch_size") == [
        ("grpc", f"{service}Classify", "OK", 1),
        *[("grpc-stream", f"{service}ClassifyStream", "OK", log.lines[1]["batch_size"])] * 2,
        ("oip-grpc", f"{inference}ModelInfer", "OK", 1),
        ("oip-grpc-stream", f"{inference}ModelStreamInfer", "OK", 1),
        ("oip-rest", "POST", "200", 1),
    ]
    assert log.of("request_id")[:3] == [("own",)] * 3
    size = {"bytes": len(flat(50)), "format": "PNG", "width": 8, "height": 8}
    assert all(line["photos"] == [size] for line in log.lines)


@pytest.mark.parametrize("query", ["views=10", "explain=occlusion"])
async def test_a_photo_that_is_cut_into_crops_is_one(
    session: aiohttp.ClientSession, log: AccessLines, query: str
) -> None:
    async with session.post(f"/v1/classify?{query}", data=flat(50)) as response:
        assert response.status == 200
    ((photos,),) = log.of("photos")
    assert photos == [{"bytes": len(flat(50)), "format": "PNG", "width": 8, "height": 8}]


OVER_HTTP = [
    ("GET", "/nowhere", {}, b"", 404, "not_found"),
    ("DELETE", "/v1/classify", {}, b"", 405, "invalid_argument"),
    ("GET", "/v1/models/unknown", {}, b"", 404, "not_found"),
    ("POST", "/v2/models/unknown/infer", {}, b"{}", 404, "not_found"),
    ("POST", "/v1/classify", {"Host": "photos.example"}, b"x", 403, "disabled"),
    ("POST", "/v1/classify", {"Origin": "http://photos.example"}, b"x", 403, "disabled"),
    ("POST", "/v1/classify", {"X-Request-Priority": "high"}, b"x", 400, "invalid_argument"),
    ("POST", "/v1/classify?version=9", {}, b"x", 404, "not_found"),
    ("POST", "/v1/classify", {}, b"no photo", 415, "unsupported_format"),
    ("POST", "/v1/classify", {}, b"x" * (SMALL + 1), 413, "too_large"),
]


@pytest.mark.parametrize(("method", "path", "headers", "body", "status", "reason"), OVER_HTTP)
async def test_every_refusal_over_http_is_a_line_and_counted_once(
    method: str, path: str, headers: dict[str, str], body: bytes, status: int, reason: str
) -> None:
    async with faking(max_request_bytes=SMALL) as fake, aiohttp.ClientSession(fake.url) as session:
        with access_lines() as log:
            async with session.request(method, path, data=body, headers=headers) as response:
                assert response.status == status
    face = "oip-rest" if path.startswith("/v2") else "rest"
    assert log.of("face", "method", "path", "status", "reason") == [
        (face, method, path.partition("?")[0], str(status), reason)
    ]
    assert log.lines[0]["why"]
    assert fake.count("alexnet_requests_total") == 1
    assert fake.count("alexnet_requests_total", face=face, outcome=reason) == 1


async def test_what_is_no_http_is_a_line_and_counted(fake: Fake, log: AccessLines) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", fake.server.http.port)
    writer.write(b"\x16\x03\x01 hello\r\n\r\n")
    assert (await reader.read()).split()[1] == b"400"
    writer.close()
    assert log.of("method", "status", "reason") == [("malformed", "400", "invalid_argument")]
    assert fake.count("alexnet_requests_total", outcome="invalid_argument") == 1


OVER_GRPC = [
    ("alexnet.v1.Classifier/Nothing", b"", "UNIMPLEMENTED", "not_found"),
    ("nowhere.Service/Method", b"", "UNIMPLEMENTED", "not_found"),
    ("alexnet.v1.Classifier/Classify", b"x" * (4 * SMALL), "RESOURCE_EXHAUSTED", "too_large"),
    ("alexnet.v1.Classifier/GetModel", b"x" * (4 * SMALL), "RESOURCE_EXHAUSTED", "too_large"),
    (
        "inference.GRPCInferenceService/ModelInfer",
        b"x" * (4 * SMALL),
        "RESOURCE_EXHAUSTED",
        "too_large",
    ),
    ("alexnet.v1.Classifier/Classify", b"\xff", "INVALID_ARGUMENT", "invalid_argument"),
    (
        "inference.GRPCInferenceService/ModelInfer",
        oip_asking.request([b"x"], model="unknown").SerializeToString(),
        "NOT_FOUND",
        "not_found",
    ),
]


@pytest.mark.parametrize(("method", "message", "code", "reason"), OVER_GRPC)
async def test_every_refusal_over_grpc_is_a_line_and_counted_once(
    method: str, message: bytes, code: str, reason: str
) -> None:
    async with (
        faking(max_request_bytes=SMALL) as fake,
        grpc.aio.insecure_channel(fake.target) as channel,
    ):
        with access_lines() as log:
            ask: Any = channel.unary_unary(f"/{method}")
            call = ask(message)
            assert (await call.code()).name == code
            async with asyncio.timeout(5):
                while not log.lines:
                    await asyncio.sleep(0.005)
    assert log.of("method", "status", "reason") == [(f"/{method}", code, reason)]
    assert fake.count("alexnet_requests_total") == 1
    assert fake.count("alexnet_requests_total", outcome=reason) == 1


async def test_by_default_only_what_was_not_answered_is_logged() -> None:
    async with faking() as fake, aiohttp.ClientSession(fake.url) as session:
        with access_lines() as log:
            async with session.post("/v1/classify", data=flat(50)) as response:
                assert response.status == 200
            form = aiohttp.FormData()
            for name, photo in (("good", flat(50)), ("bad", b"no photo")):
                form.add_field("file", photo, filename=name)
            async with session.post("/v1/classify", data=form) as response:
                assert response.status == 200
    assert log.of("status", "reason") == [("200", "ok")]  # the form: one of its photos failed
    assert [p.get("reason") for p in log.lines[0]["photos"]].count("unsupported_format") == 1


async def test_a_caller_that_hangs_up_is_logged(fake: Fake, log: AccessLines) -> None:
    fake.engine.gate.clear()
    async with aiohttp.ClientSession(fake.url) as session:
        with pytest.raises(TimeoutError):
            await session.post(
                "/v1/classify", data=flat(50), timeout=aiohttp.ClientTimeout(total=0.2)
            )
    async with asyncio.timeout(5):
        while not log.lines:
            await asyncio.sleep(0.005)
    assert log.of("status", "reason") == [("499", "cancelled")]
    assert fake.count("alexnet_requests_total", outcome="cancelled") == 1


async def test_off_is_off() -> None:
    async with faking(access_log="off") as fake, aiohttp.ClientSession(fake.url) as session:
        with access_lines() as log:
            async with session.get("/nowhere") as response:
                assert response.status == 404
    assert log.lines == []
