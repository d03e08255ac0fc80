"""Large pictures are converted in strips: about the same crop, and an end in between."""

import io
from itertools import count
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from alexnet import shown
from alexnet.preprocess import preprocess
from alexnet.source import OutOfTime
from alexnet.spec import Preprocess
from tests.photos import draw, encode
from tests.profiles import LINEAR

SPECS = Preprocess(), Preprocess(geometry="warp")
KINDS: list[tuple[str, str, dict[str, Any]]] = [
    ("PNG", "RGBA", {}),
    ("PNG", "LA", {}),
    ("PNG", "P", {"transparency": 3}),
    ("PNG", "P", {}),
    ("PNG", "1", {}),
    ("PNG", "RGB", {"icc_profile": LINEAR}),
    ("TIFF", "CMYK", {}),
    ("GIF", "P", {}),
]


def large(kind: str, mode: str, **options: Any) -> bytes:
    """Thinner than a strip at its end, and no multiple of a fraction."""
    picture = draw(333, 257).resize((2401, 1709), Image.Resampling.BICUBIC)
    return encode(picture.convert(mode), kind, **options)


def crop(data: bytes, spec: Preprocess) -> NDArray[np.int64]:
    return preprocess(data, spec).crop.astype(int)


@pytest.mark.parametrize(("kind", "mode", "options"), KINDS)
def test_a_large_picture_in_strips_shows_what_it_shows_in_one_piece(
    kind: str, mode: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = large(kind, mode, **options)
    crops = [crop(data, spec) for spec in SPECS]
    monkeypatch.setattr(shown, "LARGE", 1 << 30)
    for spec, found in zip(SPECS, crops, strict=True):
        assert np.abs(found - crop(data, spec)).mean() < 1.5


def test_an_sixteen_bit_grey_in_strips_is_that_grey() -> None:
    data = io.BytesIO()
    Image.fromarray(np.full((2000, 2400), 0x6432, np.uint16)).save(data, "PNG")
    assert (crop(data.getvalue(), SPECS[0]) == 0x64).all()


def test_a_conversion_ends_between_two_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    data, asked, loaded = large("PNG", "RGB", icc_profile=LINEAR), count(), list[int]()
    in_strips = shown._in_strips

    def watch(*options: Any) -> Image.Image:
        loaded.append(next(asked))
        return in_strips(*options)

    monkeypatch.setattr(shown, "_in_strips", watch)
    with pytest.raises(OutOfTime):
        preprocess(data, SPECS[0], over=lambda: bool(loaded) and next(asked) > loaded[0] + 5)


def test_a_large_picture_of_few_bytes_is_read_in_small_blocks() -> None:
    asked = count()
    preprocess(
        encode(Image.new("RGB", (2400, 2000)), "PNG"), SPECS[0], over=lambda: next(asked) < 0
    )
    assert next(asked) > 10  # 15 KB, which are one block else
