"""The bilinear resampling in SIMD against Pillow's, which is the measure."""

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alexnet import resampling
from alexnet.geometry import Box
from alexnet.resampling import resample
from tests.photos import draw

BILINEAR = Image.Resampling.BILINEAR
MOST_LEVELS = 2
in_simd = pytest.mark.skipif(
    not resampling.simd, reason="cykooz-resizer is not installed: it has no wheel for this machine"
)


def noise(width: int, height: int, seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def levels(a: Image.Image, b: Image.Image) -> int:
    """The largest difference."""
    return int(np.abs(np.asarray(a).astype(int) - np.asarray(b)).max())


def random_box(draws: random.Random, width: int, height: int) -> Box:
    """Of any size, with corners on pixels and between them."""
    side = min(width, height) * draws.choice([1, 0.875, 0.5, draws.uniform(0.01, 1)])
    left = draws.choice([0, (width - side) / 2, width - side])
    top = draws.choice([0, (height - side) / 2, height - side])
    return left, top, left + side, top + side


@in_simd
def test_noise_in_any_box_of_any_picture_comes_out_as_pillows_to_two_levels() -> None:
    # Noise is the worst case; thin, tiny and evenly dividing pictures are where edges go wrong.
    draws, sides = random.Random(27), (1, 2, 3, 10, 64, 128, 224, 256, 333, 448)
    for seed in range(500):
        picture = noise(draws.choice(sides), draws.choice(sides), seed)
        side, box = draws.choice((1, 2, 7, 64, 75, 224)), random_box(draws, *picture.size)
        found = levels(
            resample(picture, side, box, "bilinear"),
            picture.resize((side, side), BILINEAR, box=box),
        )
        assert found <= MOST_LEVELS, (picture.size, side, box)


@in_simd
def test_a_photo_comes_out_as_pillows_to_one_level() -> None:
    picture, box = draw(500, 375), (86.0, 23.4375, 414.125, 351.5625)
    pillows = picture.resize((224, 224), BILINEAR, box=box)
    assert 0 < levels(resample(picture, 224, box, "bilinear"), pillows) <= 1


@in_simd
def test_threads_do_not_disturb_each_other() -> None:
    pictures = [noise(300 + n, 200 + n, n) for n in range(16)]

    def crop(picture: Image.Image) -> bytes:
        return resample(picture, 64, (0, 0, 200, 200), "bilinear").tobytes()

    alone = [crop(picture) for picture in pictures]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            assert list(pool.map(crop, pictures)) == alone


@pytest.mark.parametrize(("mode", "interpolation"), [("RGBA", "bilinear"), ("RGB", "bicubic")])
def test_what_is_not_plain_is_pillows_to_the_bit(mode: str, interpolation: str) -> None:
    picture = draw(300, 200).convert(mode)
    filtering = {"bilinear": BILINEAR, "bicubic": Image.Resampling.BICUBIC}[interpolation]
    pillows = picture.resize((64, 64), filtering, box=(50, 0, 250, 200))
    assert resample(picture, 64, (50, 0, 250, 200), interpolation).tobytes() == pillows.tobytes()


def test_without_the_package_all_is_pillows(monkeypatch: Any) -> None:
    monkeypatch.setattr(resampling, "simd", None)
    picture = draw(300, 200)
    pillows = picture.resize((64, 64), BILINEAR, box=(50, 0, 250, 200))
    assert resample(picture, 64, (50, 0, 250, 200), "bilinear").tobytes() == pillows.tobytes()
