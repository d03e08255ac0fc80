"""An upload over a plain socket: the test decides when each byte is sent."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    json: dict[str, Any]


@dataclass(frozen=True)
class Upload:
    """A POST: its head has been sent, its body has not."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    body: bytes

    async def send(self, start: int = 0, stop: int | None = None) -> None:
        self.writer.write(self.body[start:stop])
        await self.writer.drain()

    async def reply(self) -> Reply:
        """Waits for the answer, whether or not the body was sent."""
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head[1:-1])
            }
            body = await self.reader.readexactly(int(headers["content-length"]))
        return Reply(int(head[0].split()[1]), headers, json.loads(body))


@asynccontextmanager
async def uploading(
    url: str, body: bytes, content_type: str = "application/octet-stream", **headers: str
) -> AsyncIterator[Upload]:
    """The connection is closed at the end of the block, even in the middle of the upload."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = {
        "host": address.netloc,
        "content-type": content_type,
        "content-length": str(len(body)),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    writer.write(f"POST /v1/classify HTTP/1.1\r\n{lines}\r\n".encode())
    try:
        yield Upload(reader, writer, body)
    finally:
        writer.close()
