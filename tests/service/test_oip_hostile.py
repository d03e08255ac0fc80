"""Requests in the Open Inference Protocol that are made to do harm."""

import asyncio
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
from server.api.oip import grpc as oip_rpc
from tests.fakes import Fake, faking, flat
from tests.service.oip_asking import ask, body, classes, framed, request

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


def varint(n: int) -> bytes:
    return bytes([n & 127 | 128]) + varint(n >> 7) if n > 127 else bytes([n])


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(content)) + content


MANY = {
    "inputs": field(5, b"") * 101,
    "outputs": field(6, b"") * 101,
    "parameters": b"".join(field(4, field(1, str(i).encode())) for i in range(101)),
    "dimensions": field(5, field(1, b"image") + field(3, bytes(1000))),
    "an input's parameters": field(
        5, b"".join(field(4, field(1, str(i).encode())) for i in range(300))
    ),
}


@pytest.mark.parametrize("parts", MANY)
async def test_too_many_inputs_outputs_dimensions_or_parameters_are_refused(
    fake: Fake, parts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(*_: Any) -> None:
        raise AssertionError("an object was made for each of them")

    monkeypatch.setattr(oip_rpc, "_parameters", made)
    monkeypatch.setattr(oip_rpc, "_inputs", made)
    message = field(1, b"tiny") + MANY[parts]
    async with grpc.aio.insecure_channel(fake.target) as channel:
        ask_raw: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.aio.AioRpcError, match="over 100 inputs, outputs") as caught:
            await ask_raw(message)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    monkeypatch.undo()


async def test_fields_without_end_are_refused_before_they_are_parsed(fake: Fake) -> None:
    contents = field(5, field(5, b"\x42\x00" * 400_000))
    async with grpc.aio.insecure_channel(fake.target) as channel:
        ask_raw: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for many in (field(5, b"") * 400_000, contents):
            with pytest.raises(grpc.aio.AioRpcError, match="over 1000 fields") as caught:
                await ask_raw(field(1, b"tiny") + many)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_typed_contents_that_are_too_long_are_not_copied(stub: Any) -> None:
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="pixels", datatype="UINT8", shape=[1, 8, 8, 3]
    )
    tensor.contents.uint_contents.extend([256] * 1000)  # a copy would stumble over the values
    with pytest.raises(grpc.aio.AioRpcError, match="has 1,000 bytes, its shape asks for 192"):
        await stub.ModelInfer(pb.ModelInferRequest(model_name="tiny_pixels", inputs=[tensor]))


@pytest.mark.parametrize("good", [0, 3])
async def test_a_message_of_a_stream_that_cannot_be_read_ends_it_after_what_was_asked_before(
    fake: Fake, good: int
) -> None:
    messages = [request([flat(100)]).SerializeToString()] * good + [b"\xff\xff"]
    async with asyncio.timeout(10), grpc.aio.insecure_channel(fake.target) as channel:
        call: Any = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")()
        for message in messages:
            await call.write(message)
        answers = [pb.ModelStreamInferResponse.FromString(answer) async for answer in call]
        assert await call.code() is grpc.StatusCode.OK
    assert [classes(answer.infer_response) for answer in answers[:-1]] == [[4]] * good
    assert answers[-1].error_message == "the message is no ModelInferRequest"


async def test_an_encoding_that_is_not_known_is_refused(session: aiohttp.ClientSession) -> None:
    data, headers = body([flat(0)])
    async with session.post(
        INFER, data=data, headers={**headers, "Content-Encoding": "rot13"}
    ) as response:
        assert response.status == 415
        message = "Content-Encoding must be gzip or deflate, not 'rot13'"
        assert await response.json() == {"error": message}


@pytest.mark.parametrize("path", ["index", "models/tiny/load"])
async def test_a_body_that_the_repository_does_not_want_is_not_read(
    session: aiohttp.ClientSession, path: str
) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)

    async with (
        asyncio.timeout(10),
        session.post(f"/v2/repository/{path}", data=never()) as response,
    ):
        assert response.status == 403


@pytest.mark.parametrize("action", ["load", "unload", "index"])
async def test_the_repository_is_closed_unless_the_operator_opens_it(
    session: aiohttp.ClientSession, action: str
) -> None:
    path = "/v2/repository/index" if action == "index" else f"/v2/repository/models/tiny/{action}"
    async with session.post(path) as response:
        assert response.status == 403
        assert "repository control is off" in (await response.json())["error"]
