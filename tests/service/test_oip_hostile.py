"""Requests in the Open Inference Protocol that nobody means well with."""

import gzip
import io
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest

from protos import oip_pb2 as pb
from protos import oip_pb2_grpc as pb_grpc
from tests.fakes import Fake, faking, flat
from tests.service.oip_asking import ask, body, framed, request

LIMIT = 1 << 20
INFER = "/v2/models/tiny/infer"


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    """It still answers when the test is over."""
    async with faking(max_request_bytes=LIMIT) as fake:
        yield fake
        assert await ask("rest", fake, [flat(100)]) == [4]
        assert await ask("grpc", fake, [flat(200)]) == [8]
        assert fake.count("alexnet_requests_in_flight") == 0


@pytest.fixture
async def session(fake: Fake) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(fake.url) as session:
        yield session


@pytest.fixture
async def stub(fake: Fake) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(fake.target) as channel:
        yield pb_grpc.GRPCInferenceServiceStub(channel)


async def refusal(session: aiohttp.ClientSession, data: bytes, **headers: str) -> tuple[int, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with session.post(INFER, data=io.BytesIO(data), headers=named) as response:
        assert response.headers["Server"] == "alexnet-server"
        return response.status, (await response.json())["error"]


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
async def test_a_bomb_is_refused_when_it_has_grown_too_large(
    session: aiohttp.ClientSession, compress: Any
) -> None:
    encoding = "gzip" if compress is gzip.compress else "deflate"
    bomb = compress(bytes(200 * LIMIT))
    assert len(bomb) < LIMIT
    status, message = await refusal(session, bomb, Content_Encoding=encoding)
    assert status == 413
    assert f"at most {LIMIT:,}" in message


async def test_a_body_that_does_not_decompress_is_refused(session: aiohttp.ClientSession) -> None:
    status, message = await refusal(session, b"no gzip", Content_Encoding="gzip")
    assert status == 400
    assert "decompress" in message


async def test_a_body_that_is_too_large_is_refused_unread(session: aiohttp.ClientSession) -> None:
    status, message = await refusal(session, bytes(2 * LIMIT))
    assert status == 413
    assert f"{2 * LIMIT:,} bytes" in message


@pytest.mark.parametrize(
    ("data", "length", "message"),
    [
        (b"{}", "-1", "whole number of bytes"),
        (b"{}", "9" * 30, "whole number of bytes"),
        (b"{}", "3", "the body has 2 bytes"),
        (b"{}", "1", "not JSON"),
        (
            b'{"inputs": [{"parameters": {"binary_data_size": 99}}]}',
            "54",
            "whole number from 0 to 0",
        ),
        (b"{}", "2", "exactly one input, 'image'; got none"),
    ],
)
async def test_lengths_that_cannot_be_are_refused(
    session: aiohttp.ClientSession, data: bytes, length: str, message: str
) -> None:
    status, found = await refusal(session, data, Inference_Header_Content_Length=length)
    assert status == 400
    assert message in found


async def test_json_that_is_nested_without_end_is_refused(session: aiohttp.ClientSession) -> None:
    status, _ = await refusal(session, b'{"inputs":' + b"[" * (LIMIT // 2))
    assert status == 400


async def test_a_request_is_answered_once_however_often_it_asks(
    session: aiohttp.ClientSession,
) -> None:
    data, headers = body([flat(0)])
    length = int(headers["Inference-Header-Content-Length"])
    head = json.loads(data[:length])
    head["outputs"] = [{"name": "probabilities"}] * 10_000
    changed = json.dumps(head).encode()
    status, message = await refusal(
        session, changed + data[length:], Inference_Header_Content_Length=str(len(changed))
    )
    assert status == 400
    assert len(message) < 1000


async def test_names_are_not_echoed_at_length(session: aiohttp.ClientSession, stub: Any) -> None:
    tensor = {"name": "x" * 100_000, "datatype": "BYTES", "shape": [1], "data": ["a"]}
    status, message = await refusal(session, json.dumps({"inputs": [tensor]}).encode())
    assert status == 400
    assert len(message) < 200
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(request([flat(0)], model="x" * 100_000))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert len(caught.value.details() or "") < 200


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([b"\xff\xff\xff\xff"], "claims 4,294,967,295 bytes, 0 are left"),
        ([framed([flat(0)])[:-1]], "are left"),
        ([framed([flat(0)] * 2)], "bytes after its last element"),
        ([b"", b""], "2 raw_input_contents for 1 inputs"),
    ],
)
async def test_raw_contents_that_lie_are_refused(stub: Any, raw: list[bytes], message: str) -> None:
    question = request([flat(0)])
    del question.raw_input_contents[:]
    question.raw_input_contents.extend(raw)
    with pytest.raises(grpc.aio.AioRpcError, match=message) as caught:
        await stub.ModelInfer(question)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_shape_that_is_larger_than_any_memory_is_refused(stub: Any) -> None:
    for model, name, datatype in (("tiny", "image", "BYTES"), ("tiny_pixels", "pixels", "UINT8")):
        tensor = pb.ModelInferRequest.InferInputTensor(
            name=name, datatype=datatype, shape=[2**40, *([] if model == "tiny" else [8, 8, 3])]
        )
        with pytest.raises(grpc.aio.AioRpcError, match="batch-size must be <= 4"):
            await stub.ModelInfer(pb.ModelInferRequest(model_name=model, inputs=[tensor]))


@pytest.mark.parametrize("who", ["load", "unload", "index"])
async def test_the_repository_is_closed_to_everybody(
    session: aiohttp.ClientSession, who: str
) -> None:
    path = "/v2/repository/index" if who == "index" else f"/v2/repository/models/tiny/{who}"
    async with session.post(path) as response:
        assert response.status == 403
        assert "repository control is off" in (await response.json())["error"]
