"""The bytes that requests are counted with: bounded, and given back once."""

import asyncio
from collections.abc import Callable

import pytest

from server.errors import EngineFailure, NotReady, Overloaded, ServeError, UnsupportedImage
from server.service import State
from tests.fakes import faking, flat
from tests.photos import png


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.002)


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


async def test_the_photos_of_one_form_may_not_hold_more_than_all_requests_together() -> None:
    large = png(400, 400)
    async with faking(max_photo_bytes=3_000_000) as fake:
        fake.engine.gate.clear()
        with fake.service.admit("test") as asked:
            answering = asyncio.create_task(fake.service.classify_many(asked, [large] * 5))
            assert await asyncio.to_thread(fake.engine.started.wait, 5)
            assert fake.count("alexnet_photo_bytes") <= 3_000_000
            fake.engine.gate.set()
            answers = await answering
        await until(lambda: fake.count("alexnet_requests_total", outcome="ok") == 1)
    assert not isinstance(answers[0], ServeError)
    assert isinstance(answers[-1], Overloaded)


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
