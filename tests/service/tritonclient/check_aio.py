"""The asyncio clients."""

# mypy: disable-error-code="import-not-found"

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import tritonclient.grpc.aio as aio_grpc
import tritonclient.http.aio as aio_http
from given import GRPC, HTTP, PHOTOS, check, photos, pixels
from tritonclient.utils import InferenceServerException

CLIENTS = {"grpc": (aio_grpc, GRPC), "http": (aio_http, HTTP)}


@pytest.mark.parametrize("name", CLIENTS)
def test_many_requests_at_once_get_each_its_own_answer(name: str) -> None:
    module, url = CLIENTS[name]

    async def run() -> None:
        async with module.InferenceServerClient(url) as client:
            assert await client.is_server_ready()
            assert (await client.get_model_metadata("alexnet")) is not None
            check(await client.infer("alexnet_pixels", [pixels(module)]))
            asked = [client.infer("alexnet", [photos(module, [p])]) for p in PHOTOS * 5]
            for i, result in enumerate(await asyncio.gather(*asked)):
                check(result, i % len(PHOTOS), 1)
            with pytest.raises(InferenceServerException, match="Request for unknown model"):
                await client.infer("resnet", [photos(module)])

    asyncio.run(run())


def test_a_stream_of_requests() -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for i, photo in enumerate(PHOTOS):
            yield {
                "model_name": "alexnet",
                "inputs": [photos(aio_grpc, [photo])],
                "request_id": str(i),
            }

    async def run() -> None:
        async with aio_grpc.InferenceServerClient(GRPC) as client:
            count = 0
            async for result, error in client.stream_infer(requests()):
                assert error is None
                assert result.get_response().id == str(count)
                check(result, count, 1)
                count += 1
            assert count == len(PHOTOS)

    asyncio.run(run())
