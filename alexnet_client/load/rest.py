"""The load generator's requests over REST: the photo is the body of a POST."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from alexnet_client.access import HTTPS, Access
from alexnet_client.classifier_pb2 import ClassifyResponse, ModelVersion, Timing
from alexnet_client.load.sender import LATE, OK, Reply, Sender, outcome_of


@asynccontextmanager
async def rest_sender(
    address: str,
    photos: Sequence[bytes],
    priority: int | None = None,
    connections: int = 4,
    access: Access | None = None,
) -> AsyncIterator[Sender]:
    """A connection carries one request at a time; more are opened when all are busy."""
    access = access or Access()
    context = access.context(address)
    base = address if address.startswith(HTTPS) else f"http://{address}"
    url = f"{base}/v1/classify"
    options = access.headers
    if priority is not None:
        options["x-request-priority"] = str(priority)
    connector = TCPConnector(limit=0, ssl=context or True)
    async with ClientSession(connector=connector) as session:

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
