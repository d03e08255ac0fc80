"""The bytes that requests are counted with: bounded, and given back once."""

import asyncio
from contextlib import AsyncExitStack

import numpy as np
import pytest
from PIL import Image

from server.errors import EngineFailure, NotReady, Overloaded, ServeError, UnsupportedImage
from server.scheduler.gate import CHUNK_BYTES
from server.service import State
from tests.fakes import believe, faking, flat, flat_costs
from tests.photos import encode
from tests.uploads import uploading
from tests.waiting import until


async def test_bytes_are_given_back_once_whichever_photo_of_a_request_fails() -> None:
    async with faking() as fake:
        fake.engine.gate.clear()
        photos = [flat(0), flat(50), b"no photo", flat(100)]
        for _ in range(3):
            with pytest.raises(UnsupportedImage), fake.service.admit("test") as asked:
                await fake.service.classify_many(asked, photos, all_or_none=True)
            await until(lambda: fake.count("alexnet_photos_total", outcome="cancelled") % 3 == 0)
            await until(lambda: fake.count("alexnet_photo_bytes") == 0)
        fake.engine.gate.set()
        fake.engine.fail = True
        with pytest.raises(EngineFailure), fake.service.admit("test") as asked:
            await fake.service.classify_many(asked, [flat(0), flat(50)], all_or_none=True)
        await until(lambda: fake.count("alexnet_photo_bytes") == 0)
        await asyncio.sleep(0)
        assert fake.count("alexnet_photo_bytes") == 0


def grain(side: int = 400) -> bytes:
    """A photo that no format makes small: 0.48 MB."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    return encode(Image.fromarray(pixels), "PNG")


async def test_the_photos_of_one_form_are_counted_as_its_upload_was() -> None:
    """None of them is refused for the room that the others take; each gives its own back."""
    large = grain()
    size = 12 * len(large)
    async with faking(max_photo_bytes=size, max_request_bytes=size) as fake:
        fake.engine.gate.clear()
        with fake.service.admit("test", upload_bytes=size) as asked:
            asked.hold_upload(size)
            answering = asyncio.create_task(fake.service.classify_many(asked, [large] * 12))
            assert await asyncio.to_thread(fake.engine.started.wait, 5)
            assert fake.count("alexnet_photo_bytes") == size
            fake.engine.gate.set()
            answers = await answering
        await until(lambda: fake.count("alexnet_requests_total", outcome="ok") == 1)
        assert fake.count("alexnet_photos_total") == 12
        assert fake.count("alexnet_photo_bytes") == 0
    assert not [answer for answer in answers if isinstance(answer, ServeError)]


async def test_a_photo_that_finds_the_room_taken_is_refused_until_there_is_some() -> None:
    """The photo that holds it is expected in two seconds."""
    large = grain()
    async with faking(max_photo_bytes=800_000) as fake:
        fake.pipeline.decoder.max_bytes = 1 << 30
        believe(fake.pipeline, flat_costs(infer_ms=2000.0))
        fake.engine.gate.clear()
        with fake.service.admit("test") as first, fake.service.admit("test") as second:
            answering = asyncio.ensure_future(fake.service.classify(first, large))
            await until(lambda: fake.count("alexnet_photo_bytes") > 400_000)
            (refused,) = await fake.service.classify_many(second, [large])
            assert isinstance(refused, Overloaded)
            assert refused.retry_after_s is not None
            assert 0.9 < refused.retry_after_s < 3.1  # half to one and a half of it
            fake.engine.gate.set()
            await answering


async def test_an_upload_counts_as_what_is_here_of_it_and_a_chunk() -> None:
    size = 20 * CHUNK_BYTES
    async with (
        faking(max_request_bytes=size, max_photo_bytes=2 * size) as fake,
        AsyncExitStack() as s,
    ):
        for _ in range(30):  # twice the room, if it were counted as it is declared
            await s.enter_async_context(uploading(fake.url, bytes(size)))
        await fake.until_in_flight(30)
        assert fake.count("alexnet_photo_bytes") == 30 * CHUNK_BYTES
        sender = await s.enter_async_context(uploading(fake.url, bytes(size)))
        await sender.send(stop=5 * CHUNK_BYTES)
        await until(lambda: fake.count("alexnet_photo_bytes") == 36 * CHUNK_BYTES)
        await sender.send(start=5 * CHUNK_BYTES)
        assert (await sender.reply()).status == 429
        await until(lambda: fake.count("alexnet_photo_bytes") == 30 * CHUNK_BYTES)
    assert fake.count("alexnet_photo_bytes") == 0


async def test_a_stopping_server_says_so_whatever_else_is_wrong_with_a_request() -> None:
    async with faking() as fake:
        fake.service.state = State.STOPPING
        with pytest.raises(NotReady, match="the server is stopping"):
            fake.service.admit("test", 0.0, priority=99, version="7").__enter__()
        fake.service.state = State.SERVING


async def test_a_version_that_does_not_exist_is_no_failure_of_one_that_does() -> None:
    async with faking() as fake:
        with pytest.raises(ServeError), fake.service.admit("test") as asked:
            fake.service.amend(asked, version="7")
        counted = "alexnet_requests_total"
        assert fake.count(counted, outcome="not_found", version="") == 1
        assert fake.count("nv_inference_request_failure") == 0
