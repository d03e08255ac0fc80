"""Corners of HTTP, over plain sockets: half-closed callers, 100 Continue, bodies without length."""

import asyncio
import json
from typing import Any

import pytest

from tests.fakes import Fake, faking, flat

PHOTO = flat(75)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def asking(
    body: bytes = PHOTO, version: str = "1.1", path: str = "/v1/classify", /, **more: str
) -> bytes:
    head = {
        "Host": "localhost",
        "Content-Length": str(len(body)),
        **{name.replace("_", "-"): text for name, text in more.items()},
    }
    lines = "".join(f"{name}: {text}\r\n" for name, text in head.items() if text)
    return f"POST {path} HTTP/{version}\r\n{lines}\r\n".encode() + body


def on(path: str, **more: str) -> bytes:
    return asking(PHOTO, "1.1", path, **more)


async def connected(fake: Fake) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", fake.server.http.port)


async def told(fake: Fake, sent: bytes, half: bool = False) -> bytes:
    """All that comes until the server closes."""
    reader, writer = await connected(fake)
    writer.write(sent)
    if half:
        writer.write_eof()
    async with asyncio.timeout(5):
        got = await reader.read()
    writer.close()
    return got


async def answered(reader: asyncio.StreamReader) -> bytes:
    """One answer, of a connection that may stay open."""
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        return head + await reader.readexactly(length)


def refusal(got: bytes) -> tuple[int, Any]:
    """Of an answer that is JSON and nothing else."""
    head, _, body = got.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head.lower()
    assert b"connection: close" in head.lower() or head.startswith(b"HTTP/1.0")
    return int(head.split()[1]), json.loads(body)["error"]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_caller_that_closes_its_sending_half_is_answered(version: str) -> None:
    async with faking() as fake:
        got = await told(fake, asking(PHOTO, version), half=True)
        assert got.startswith(f"HTTP/{version} 200 OK".encode())
        assert json.loads(got.partition(b"\r\n\r\n")[2])["predictions"][0]["index"] == 3


async def test_every_request_before_the_half_close_is_answered() -> None:
    async with faking() as fake:
        got = await told(fake, asking() + asking() + asking(), half=True)
        assert got.count(b"HTTP/1.1 200 OK") == 3


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_half_closed_caller_is_answered_however_long_it_takes(version: str) -> None:
    async with faking() as fake:
        fake.engine.gate.clear()
        reader, writer = await connected(fake)
        writer.write(asking(PHOTO, version))
        writer.write_eof()
        await fake.until_in_flight(1)
        if version == "1.1":  # which is how the server finds out that it is still there
            assert await reader.readexactly(len(CONTINUE)) == CONTINUE
        fake.engine.gate.set()
        assert (await reader.read()).startswith(f"HTTP/{version} 200 OK".encode())
        writer.close()


async def test_a_caller_that_hangs_up_still_leaves_the_queue() -> None:
    async with faking() as fake:
        fake.engine.gate.clear()
        _, writer = await connected(fake)
        writer.write(asking())
        await fake.until_in_flight(1)
        writer.close()
        await fake.until_in_flight(0)
        assert fake.count("alexnet_requests_total", outcome="cancelled") == 1


async def test_a_request_that_ends_in_the_middle_is_given_up() -> None:
    async with faking() as fake:
        assert await told(fake, asking()[:-1], half=True) == b""
        await fake.until_in_flight(0)


EXPECTING = {"Expect": "100-continue"}


async def test_a_caller_that_waits_for_100_continue_gets_it() -> None:
    async with faking() as fake:
        reader, writer = await connected(fake)
        head = asking(**EXPECTING).removesuffix(PHOTO)
        for _ in range(2):  # the connection stays open
            writer.write(head)
            assert await reader.readexactly(len(CONTINUE)) == CONTINUE
            writer.write(PHOTO)
            assert (await answered(reader)).startswith(b"HTTP/1.1 200 OK")
        writer.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (asking(Content_Length="2000000", **EXPECTING), 413),
        (on("/v2/models/tiny/infer", Content_Length="2000000", **EXPECTING), 413),
        (on("/v2/repository/index", Content_Length="2000000", **EXPECTING), 413),
        (on("/nothing", Content_Length="2000000", **EXPECTING), 404),
        (on("/v1/models", **EXPECTING), 405),
        (on("/v2/models/other/infer", **EXPECTING), 404),
        (asking(Content_Encoding="br", **EXPECTING), 415),
        (asking(Content_Length="", **EXPECTING), 411),
        (asking(Content_Length="99", Content_Type="multipart/form-data", Content_Encoding="gzip",
                **EXPECTING), 415),
        (asking(Origin="http://evil.example", **EXPECTING), 403),
    ],
)  # fmt: skip
async def test_what_is_refused_is_not_asked_for(sent: bytes, status: int) -> None:
    async with faking(repository_control="local") as fake:
        reader, writer = await connected(fake)
        writer.write(sent.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        assert refusal(await answered(reader))[0] == status
        writer.close()


async def test_http_1_0_knows_no_100_continue() -> None:
    async with faking() as fake:
        got = await told(fake, asking(PHOTO, "1.0", **EXPECTING))
        assert got.startswith(b"HTTP/1.0 200 OK")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("path", ["/v1/classify", "/v2/models/tiny/infer"])
@pytest.mark.parametrize("apart", [True, False])
async def test_a_body_without_a_length_is_refused_as_json_that_does_not_repeat_it(
    path: str, version: str, apart: bool
) -> None:
    secret = b"a secret of the caller\r\n\r\nanother"
    async with faking() as fake:
        head = asking(b"", version, path, Content_Length="")
        reader, writer = await connected(fake)
        writer.write(head if apart else head + secret)
        await writer.drain()
        async with asyncio.timeout(5):
            got = await reader.read()
        writer.close()
        status, error = refusal(got)
        assert (status, b"secret" in got) == (411, False)
        assert "Content-Length" in str(error)
        await fake.until_in_flight(0)


async def test_a_call_without_a_body_needs_no_length() -> None:
    async with faking(repository_control="local") as fake:
        sent = asking(b"", "1.1", "/v2/repository/index", Content_Length="", Connection="close")
        assert (await told(fake, sent)).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    "sent",
    [
        b"a secret\r\n\r\n",
        b"GET / HTTP/1.1\r\na secret\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a secret\0\r\n\r\n",
        b"GET /" + b"a secret" * 2000 + b" HTTP/1.1\r\n\r\n",
        b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: a secret\r\n\r\n",
        b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: secret\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused_as_json_that_does_not_repeat_it(sent: bytes) -> None:
    async with faking() as fake:
        got = await told(fake, sent)
        status, error = refusal(got)
        assert (status, error["code"], b"secret" in got) == (400, "invalid_argument", False)
        assert error["message"].startswith("the request is not valid HTTP: ")
        assert b"nosniff" in got
