"""The load generator's requests over REST: the photo is the body of a POST."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from clients.load.sender import LATE, OK, Reply, Sender, outcome_of
from protos.classifier_pb2 import ClassifyResponse, ModelVersion, Timing


@asynccontextmanager
async def rest_sender(
    address: str, photos: Sequence[bytes], priority: int | None = None, connections: int = 4
) -> AsyncIterator[Sender]:
    """A connection carries one request at a time; more are opened when all are busy."""
    url = f"http://{address}/v1/classify"
    options = {} if priority is None else {"x-request-priority": str(priority)}
    async with ClientSession(connector=TCPConnector(limit=0)) as session:

        async def send(photo: int, timeout_s: float) -> Reply:
            ms = max(1, round(1000 * timeout_s))
            try:
                async with session.post(
                    url,
                    data=photos[photo],
                    headers={"x-request-timeout-ms": str(ms), **options},
                    timeout=ClientTimeout(total=ms / 1000),
                ) as response:
                    body = await response.read()
            except TimeoutError:
                return Reply(LATE)
            except ClientError:
                return Reply("unavailable")
            return Reply(OK, body) if response.ok else Reply(_reason(response.status, body))

        yield Sender(len(photos), connections, send, _read)


def _read(body: bytes) -> ClassifyResponse:
    answer = json.loads(body)
    timing = {f"{stage}_ms": ms for stage, ms in answer["timing_ms"].items()}
    return ClassifyResponse(
        model=ModelVersion(version=answer["model"]["version"]),
        timing=Timing(batch_size=answer["batch_size"], **timing),
    )


def _reason(status: int, body: bytes) -> str:
    try:
        return outcome_of(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):  # such as a proxy's error page
        return f"http_{status}"
