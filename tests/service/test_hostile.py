"""What bad input gets: one clear error with the right code, and the next caller is served."""

import asyncio
import io
import struct
import zlib
from collections.abc import AsyncIterator

import aiohttp
import grpc
import pytest

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from tests.photos import jpeg
from tests.processes import ServerProcess

pytestmark = pytest.mark.process

MEGABYTE = 1 << 20


def bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    """A PNG of a few bytes that declares 900 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


# what, bytes, HTTP status, code in JSON, gRPC status, a word of the message
BAD_IMAGES = [
    ("truncated", jpeg()[:2000], 400, "invalid_image", "INVALID_ARGUMENT", "decoded"),
    ("text", b"hello, world", 415, "unsupported_format", "INVALID_ARGUMENT", "JPEG"),
    ("empty", b"", 400, "invalid_image", "INVALID_ARGUMENT", "empty"),
    ("bomb", bomb(), 413, "too_large", "INVALID_ARGUMENT", "pixels"),
    ("svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "unsupported_format",
     "INVALID_ARGUMENT", "known format"),
]  # fmt: skip
BAD_IDS = [row[0] for row in BAD_IMAGES]


@pytest.fixture
async def session(server: ServerProcess) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.http) as session:
        yield session
        async with session.post("/v1/classify", data=jpeg()) as response:
            assert response.status == 200, "the server no longer serves"


@pytest.fixture
async def stub(server: ServerProcess) -> "AsyncIterator[pb_grpc.ClassifierStub]":
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        stub = pb_grpc.ClassifierStub(channel)
        yield stub
        assert (await stub.Classify(pb.ClassifyRequest(image=jpeg()))).predictions


async def error_of(response: aiohttp.ClientResponse) -> tuple[int, str, str]:
    body = await response.json()
    assert set(body) == {"error", "request_id"}
    return response.status, body["error"]["code"], body["error"]["message"]


@pytest.mark.parametrize(("_what", "data", "status", "code", "_grpc", "word"), BAD_IMAGES,
                         ids=BAD_IDS)  # fmt: skip
async def test_a_bad_image_over_rest(
    session: aiohttp.ClientSession,
    _what: str, data: bytes, status: int, code: str, _grpc: str, word: str,
) -> None:  # fmt: skip
    async with session.post("/v1/classify", data=data) as response:
        got_status, got_code, message = await error_of(response)
    assert (got_status, got_code) == (status, code)
    assert word in message
    assert "Traceback" not in message


@pytest.mark.parametrize(("_what", "data", "_status", "code", "grpc_code", "word"), BAD_IMAGES,
                         ids=BAD_IDS)  # fmt: skip
async def test_a_bad_image_over_grpc(
    stub: pb_grpc.ClassifierStub,
    _what: str, data: bytes, _status: int, code: str, grpc_code: str, word: str,
) -> None:  # fmt: skip
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Classify(pb.ClassifyRequest(image=data))
    assert caught.value.code() is grpc.StatusCode[grpc_code]
    assert word in (caught.value.details() or "")
    assert dict(caught.value.trailing_metadata() or ())["alexnet-reason"] == code


@pytest.mark.parametrize("k", ["0", "5000", "-1", "five", "1e3", ""])
async def test_a_bad_top_k_over_rest(session: aiohttp.ClientSession, k: str) -> None:
    async with session.post("/v1/classify", params={"top_k": k}, data=jpeg()) as response:
        status, code, message = await error_of(response)
    assert (status, code) == (400, "invalid_argument")
    assert "top_k" in message


@pytest.mark.parametrize("k", [0, 5000])
async def test_a_bad_top_k_over_grpc(stub: pb_grpc.ClassifierStub, k: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Classify(pb.ClassifyRequest(image=jpeg(), top_k=k))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "between 1 and 1000" in (caught.value.details() or "")


async def test_a_hundred_megabytes_over_rest_are_refused_unread(
    session: aiohttp.ClientSession,
) -> None:
    asked: list[int] = []

    class File(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            asked.append(size or 0)
            return super().read(size)

    headers, file = {"Expect": "100-continue"}, File(bytes(100 * MEGABYTE))
    async with session.put("/v1/classify", data=file, headers=headers) as response:
        status, code, message = await error_of(response)
    assert (status, code) == (413, "too_large")
    assert "104,857,600 bytes" in message
    assert not asked, "some of it was sent"


async def test_a_chunked_upload_without_end_is_refused(session: aiohttp.ClientSession) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(MEGABYTE)

    try:
        async with session.post("/v1/classify", data=body()) as response:
            assert response.status == 413
    except aiohttp.ClientConnectionError:
        pass  # the server hung up on the rest of the upload: as good


async def test_a_hundred_megabytes_over_grpc_are_refused(server: ServerProcess) -> None:
    options = [("grpc.max_send_message_length", 200 * MEGABYTE)]
    async with grpc.aio.insecure_channel(server.grpc, options) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await pb_grpc.ClassifierStub(channel).Classify(
                pb.ClassifyRequest(image=bytes(100 * MEGABYTE))
            )
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v9/classify", 404),
        ("GET", "/etc/passwd", 404),
        ("GET", "/v1/classify", 405),
        ("DELETE", "/v1/models", 405),
    ],
)
async def test_an_unknown_path_or_method(
    session: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    async with session.request(method, path) as response:
        got, _, message = await error_of(response)
        assert got == status
        assert path in message
        assert status != 405 or "Allow" in response.headers


async def test_options_that_are_wrong_are_refused(session: aiohttp.ClientSession) -> None:
    async with session.post("/v1/classify?topk=3", data=jpeg()) as response:
        assert (await error_of(response))[:2] == (400, "invalid_argument")
    headers = {"x-request-timeout-ms": "soon"}
    async with session.post("/v1/classify", data=jpeg(), headers=headers) as response:
        assert (await error_of(response))[:2] == (400, "invalid_argument")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--x\r\nbroken"),
        ("multipart/form-data; boundary=x",
         b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\nhi\r\n--x--\r\n'),
    ],
)  # fmt: skip
async def test_a_malformed_form_is_refused(
    session: aiohttp.ClientSession, content_type: str, body: bytes
) -> None:
    headers = {"content-type": content_type}
    async with session.post("/v1/classify", data=body, headers=headers) as response:
        assert (await error_of(response))[:2] == (400, "invalid_argument")


async def test_good_photos_beside_bad_ones_are_all_answered(session: aiohttp.ClientSession) -> None:
    async def post(data: bytes) -> int:
        async with session.post("/v1/classify", data=data) as response:
            return response.status

    photos = [jpeg(seed=i) if i % 2 else BAD_IMAGES[i % 4][1] for i in range(40)]
    statuses = await asyncio.gather(*map(post, photos))
    assert [s == 200 for s in statuses] == [bool(i % 2) for i in range(40)]
    assert all(s < 500 for s in statuses)


async def test_garbage_on_the_port_is_survived(server: ServerProcess) -> None:
    port = int(server.http.rpartition(":")[2])
    for garbage in (b"\x00" * 1000, b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/classify HTTP/1.1\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(garbage)
        writer.write_eof()
        await asyncio.wait_for(reader.read(4096), 10)
        writer.close()
    async with (
        aiohttp.ClientSession(server.http) as session,
        session.post("/v1/classify", data=jpeg()) as response,
    ):
        assert response.status == 200
