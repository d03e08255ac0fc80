"""Every decode has an end: no photo keeps a thread longer than it is of use."""

import asyncio
from typing import Any

import pytest

from alexnet.preprocess import preprocess
from alexnet.source import OutOfTime, Source
from alexnet.spec import Preprocess
from server.errors import Expired, ServeError
from server.scheduler import decoder as module
from tests.fakes import Fake, faking, flat
from tests.photos import draw, encode
from tests.waiting import until


def endless(data: bytes, *options: Any) -> None:
    """A file that a decoder reads for ever."""
    source = Source(data, options[-1])
    while True:
        source.seek(0)
        source.read(9)


async def ask(fake: Fake, photo: bytes, timeout_s: float = 5.0) -> float:
    with fake.service.admit("test", timeout_s) as asked:
        return float((await fake.service.classify(asked, photo)).probabilities.max())


async def test_the_threads_are_free_again_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    async with faking() as fake:
        with monkeypatch.context() as patch:
            patch.setattr(module, "preprocess", endless)
            asked = [asyncio.create_task(ask(fake, flat(0), 0.2)) for _ in range(4)]
            for failure in await asyncio.gather(*asked, return_exceptions=True):
                assert isinstance(failure, ServeError)
            await until(lambda: not fake.pipeline.decoder._running)
        await ask(fake, flat(50))


async def test_a_caller_that_hangs_up_ends_the_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    async with faking() as fake:
        monkeypatch.setattr(module, "preprocess", endless)
        asked = asyncio.create_task(ask(fake, flat(0)))
        await until(lambda: fake.pipeline.decoder._running)
        asked.cancel()
        await until(lambda: not fake.pipeline.decoder._running)


async def test_it_is_answered_as_what_has_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    async with faking() as fake:
        monkeypatch.setattr(module, "preprocess", endless)
        with pytest.raises(Expired):
            await ask(fake, flat(0), 0.2)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_decoder_asks_whether_it_is_over(kind: str) -> None:
    with pytest.raises(OutOfTime):
        preprocess(encode(draw(400, 300), kind), Preprocess(), over=lambda: True)
