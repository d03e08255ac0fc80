"""WebP is decoded in pieces, by the library that Pillow brings."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alexnet import webp
from alexnet.header import Header, read_header
from alexnet.preprocess import MAX_PIXELS, InvalidImage, check_pixels, decoded_bytes, preprocess
from alexnet.source import OutOfTime, never
from alexnet.spec import Preprocess
from tests.photos import draw, encode
from tests.profiles import P3

pytestmark = pytest.mark.skipif(not webp.usable, reason="Pillow has no libwebp of its own here")
SPEC = Preprocess()
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("RGB", {"quality": 80}),
    ("RGB", {"lossless": True}),
    ("RGBA", {"quality": 80}),
    ("RGBA", {"lossless": True}),
    ("RGB", {"quality": 80, "icc_profile": P3, "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
]


@pytest.mark.parametrize(("mode", "options"), KINDS)
@pytest.mark.parametrize("size", [(320, 240), (33, 1)])
def test_a_photo_is_to_the_pixel_what_pillow_makes_of_it(
    mode: str, options: dict[str, Any], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(draw(*size, mode), "WEBP", **options)
    ours = preprocess(data, SPEC)
    monkeypatch.setattr(webp, "usable", False)
    theirs = preprocess(data, SPEC)
    np.testing.assert_array_equal(ours.crop, theirs.crop)
    assert vars(ours) | {"crop": 0} == vars(theirs) | {"crop": 0}


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("lossless", [False, True])
def test_a_large_photo_is_decoded_at_a_fraction(mode: str, lossless: bool) -> None:
    data = encode(draw(2400, 2000, mode), "WEBP", lossless=lossless, quality=50, method=0)
    crop = preprocess(data, SPEC).crop.astype(int)
    with Image.open(io.BytesIO(data)) as image:
        whole = preprocess(encode(image, "PNG", compress_level=1), SPEC).crop
    assert np.abs(crop - whole).mean() < 1


def test_the_limit_of_pixels_is_that_of_other_formats() -> None:
    largest = Header("WEBP", 9200, 6900)
    check_pixels(largest, SPEC, MAX_PIXELS)
    assert decoded_bytes(largest, SPEC) < 7 / 8 * 1e9


def test_damage_costs_the_photo_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    for mode, options in KINDS:
        whole = encode(draw(96, 80, mode), "WEBP", **options)
        for length in range(12, len(whole) - 40, 41):
            with pytest.raises(InvalidImage):
                preprocess(whole[:length], SPEC)
        for _ in range(200):
            damaged = bytearray(whole)
            for at in rng.integers(12, len(whole), 3):
                damaged[at] = rng.integers(256)
            header = read_header(bytes(damaged))
            if header and header.width * header.height < 100_000:
                try:
                    preprocess(bytes(damaged), SPEC)
                except InvalidImage:
                    continue


def test_a_decode_ends_between_two_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(draw(2400, 2000), "WEBP", method=0)
    answers = iter([False] * 20 + [True])
    with pytest.raises(OutOfTime):
        preprocess(data, SPEC, over=lambda: next(answers))


def test_a_picture_of_another_size_than_declared_is_not_decoded() -> None:
    with pytest.raises(ValueError, match="another size"):
        webp.decoded(encode(draw(64, 64), "WEBP"), 64 * 64 - 1, 1, never)
