"""`return=crop`: the very pixels that the network saw."""

import io
from typing import Any

import aiohttp
import numpy as np
import pytest
from PIL import Image

from alexnet.preprocess import preprocess
from alexnet.spec import Preprocess
from tests.fakes import SIDE, Fake, faking
from tests.photos import draw, encode, jpeg

CROP = "/v1/classify?return=crop"


async def post(fake: Fake, path: str, data: Any) -> tuple[int, str, bytes]:
    async with (
        aiohttp.ClientSession(fake.url) as session,
        session.post(path, data=data) as response,
    ):
        assert response.status != 200 or "Server-Timing" in response.headers
        return response.status, response.content_type, await response.read()


async def test_the_crop_is_what_the_network_saw() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    photo = encode(draw(320, 200), "JPEG", exif=turned)
    form = aiohttp.FormData()
    form.add_field("file", photo, filename="a.jpg")
    async with faking() as fake:
        for data in (photo, form):
            status, kind, body = await post(fake, CROP, data)
            assert (status, kind) == (200, "image/png")
            saw = np.asarray(Image.open(io.BytesIO(body)))
            np.testing.assert_array_equal(saw, preprocess(photo, Preprocess(SIDE, SIDE)).crop)
        assert fake.engine.batches == [[round(saw.mean())]] * 2


async def test_what_has_no_crop_is_told_so() -> None:
    form = aiohttp.FormData()
    for name in "ab":
        form.add_field("file", jpeg(), filename=name)
    async with faking() as fake:
        for path, data, code, why in (
            (CROP, b"no photo", 415, b"unsupported_format"),
            (CROP, form, 400, b"for one photo, and the form has 2"),
            ("/v1/classify?return=pixels", jpeg(), 400, b"return must be crop"),
        ):
            status, _, body = await post(fake, path, data)
            assert (status, why in body) == (code, True), body


@pytest.mark.parametrize("query", ["return=crop&return=crop", "return=crop&top_k=1"])
async def test_it_is_one_option_among_others(query: str) -> None:
    async with faking() as fake:
        assert (await post(fake, f"/v1/classify?{query}", jpeg()))[0] == 200
