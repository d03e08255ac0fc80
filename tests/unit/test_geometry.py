"""The crops of torchvision and of Caffe, against their own two steps with whole pixels."""

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from alexnet.preprocess import preprocess
from alexnet.spec import Preprocess
from tests.photos import draw, encode, jpeg
from tests.torchvision_crop import resize_and_crop

TORCHVISION = Preprocess(geometry="torchvision")
CAFFE = Preprocess(crop=227, geometry="warp")
SIZES = [(500, 375), (375, 500), (333, 251), (251, 333), (640, 427), (400, 400), (70, 1000)]


def as_caffe(image: Image.Image) -> NDArray[np.uint8]:
    """convert_imageset --resize_height=256 --resize_width=256, then the crop of data_transformer:
    h_off = (256 - 227) / 2 in integers."""
    square = image.resize((256, 256), Image.Resampling.BILINEAR)
    return np.asarray(square.crop((14, 14, 14 + 227, 14 + 227)))


def crop_of(image: Image.Image, spec: Preprocess) -> NDArray[np.uint8]:
    return preprocess(encode(image, "BMP"), spec).crop


def largest_difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def noise(width: int, height: int) -> Image.Image:
    """A picture in which half a pixel matters."""
    pixels = np.random.default_rng(width).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    blocks = pixels.astype(np.uint8).repeat(8, 0).repeat(8, 1)
    return Image.fromarray(blocks[:height, :width])


@pytest.mark.parametrize("size", SIZES)
def test_torchvisions_crop_comes_pixel_by_pixel(size: tuple[int, int]) -> None:
    image = noise(*size)
    assert largest_difference(crop_of(image, TORCHVISION), resize_and_crop(image)) <= 1


@pytest.mark.parametrize("size", SIZES)
def test_caffes_crop_comes_pixel_by_pixel(size: tuple[int, int]) -> None:
    image = noise(*size)
    assert largest_difference(crop_of(image, CAFFE), as_caffe(image)) <= 1


def test_the_geometries_differ() -> None:
    image = noise(500, 375)
    exact = crop_of(image, Preprocess())
    assert largest_difference(exact, crop_of(image, TORCHVISION)) > 40
    warped = crop_of(image, Preprocess(geometry="warp"))
    assert largest_difference(exact, warped) > 40


@pytest.mark.parametrize("spec", [TORCHVISION, Preprocess(crop=227, geometry="torchvision"), CAFFE])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_a_turned_photo_has_the_crop_of_the_upright_one(
    file_format: str, orientation: int, spec: Preprocess
) -> None:
    """The crop's corner is rounded in the upright photo, where 341 - 224 is odd."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(noise(500, 375), file_format, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert largest_difference(preprocess(data, spec).crop, crop_of(upright, spec)) <= 1


def test_a_large_jpeg_that_is_decoded_at_a_fraction_keeps_its_box() -> None:
    data = jpeg(2501, 1701, quality=95)
    whole = Image.open(io.BytesIO(data)).convert("RGB")
    for spec, expected in ((TORCHVISION, resize_and_crop(whole)), (CAFFE, as_caffe(whole))):
        assert largest_difference(preprocess(data, spec).crop, expected) <= 4


@pytest.mark.parametrize("geometry", ["torchvision", "warp"])
def test_the_whole_square_for_ten_views_is_within_the_photo(geometry: Any) -> None:
    for width, height in SIZES:
        spec = Preprocess(crop=256, geometry=geometry)
        assert preprocess(encode(draw(width, height), "PNG"), spec).crop.shape == (256, 256, 3)


def test_a_damaged_png_is_refused_as_ever() -> None:
    data = encode(draw(), "PNG")
    with pytest.raises(ValueError, match="the PNG cannot be decoded"):
        preprocess(data[: len(data) // 2], TORCHVISION)
