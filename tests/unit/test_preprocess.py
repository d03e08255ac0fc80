import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from alexnet import preprocess as module
from alexnet.header import read_header
from alexnet.preprocess import ImageTooLarge, InvalidImage, Photo, UnsupportedFormat, preprocess
from alexnet.spec import Preprocess
from tests.photos import DRAWN, draw, encode, jpeg, png

SPEC = Preprocess()
SMALL = Preprocess(73, 64)


def crop_of(image: Image.Image, spec: Preprocess = SPEC) -> NDArray[np.uint8]:
    return preprocess(encode(image, "BMP"), spec).crop


def largest_difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def mean_difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def png_of(width: int, height: int) -> bytes:
    """A PNG that declares this size, with hardly any pixels behind it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        body += struct.pack(">I", len(data)) + kind + data
        body += struct.pack(">I", zlib.crc32(kind + data))
    return body


def test_a_photo_becomes_one_contiguous_crop_and_what_was_uploaded_is_told() -> None:
    photo = preprocess(jpeg(320, 240), SPEC)
    assert photo.crop.shape == (224, 224, 3)
    assert photo.crop.dtype == np.uint8
    assert photo.crop.flags.c_contiguous
    assert (photo.format, photo.width, photo.height) == ("JPEG", 320, 240)
    assert (photo.mode, photo.orientation) == ("RGB", 1)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("width", "height"), [(640, 320), (320, 640), (512, 512)])
def test_one_resampling_equals_resize_then_crop(
    width: int, height: int, interpolation: Any
) -> None:
    image = draw(width, height)
    scale = 256 / min(width, height)
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    whole = image.resize((round(width * scale), round(height * scale)), filters[interpolation])
    left, top = (whole.width - 224) // 2, (whole.height - 224) // 2
    naive = np.asarray(whole.crop((left, top, left + 224, top + 224)))
    assert largest_difference(crop_of(image, Preprocess(256, 224, interpolation)), naive) <= 1


def test_a_size_that_does_not_divide_stays_within_half_a_pixel_of_resize_then_crop() -> None:
    image = draw(333, 251)
    whole = image.resize((round(333 * 256 / 251), 256), Image.Resampling.BILINEAR)
    left = (whole.width - 224) // 2
    naive = np.asarray(whole.crop((left, 16, left + 224, 240)))
    assert mean_difference(crop_of(image), naive) < 1


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (10, 8), (224, 224), (300, 2000)])
def test_any_size_gives_the_crop(size: tuple[int, int]) -> None:
    photo = preprocess(png(*size), SMALL)
    assert photo.crop.shape == (64, 64, 3)
    assert (photo.width, photo.height) == size


def test_a_crop_as_large_as_the_photo_changes_no_pixel() -> None:
    image = draw(64, 64)
    np.testing.assert_array_equal(crop_of(image, Preprocess(64, 64)), np.asarray(image))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_the_crop_is_upright_for_every_exif_orientation(file_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(draw(), file_format, exif=exif)
    photo = preprocess(data, SPEC)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert largest_difference(photo.crop, crop_of(upright)) <= 1
    assert photo.crop.flags.c_contiguous
    assert (photo.orientation, photo.width, photo.height) == (orientation, 320, 240)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_unknown_orientation_counts_as_upright(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    photo = preprocess(jpeg(exif=exif), SPEC)
    assert photo.orientation == 1
    np.testing.assert_array_equal(photo.crop, preprocess(jpeg(), SPEC).crop)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_broken_exif_block_does_not_cost_the_photo() -> None:
    photo = preprocess(jpeg(exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff garbage"), SPEC)
    np.testing.assert_array_equal(photo.crop, preprocess(jpeg(), SPEC).crop)


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_and_palette_photos_are_what_a_viewer_shows(mode: str) -> None:
    image = draw(mode=mode)
    photo = preprocess(encode(image, "PNG"), SPEC)
    assert photo.mode == mode
    assert largest_difference(photo.crop, crop_of(image.convert("RGB"))) <= 1


def test_a_cmyk_jpeg_keeps_its_colours() -> None:
    photo = preprocess(jpeg(mode="CMYK", quality=95), SPEC)
    assert photo.mode == "CMYK"
    assert mean_difference(photo.crop, crop_of(draw())) < 3


def test_16_bit_grey_keeps_its_upper_8_bits() -> None:
    values = np.linspace(0, 65535, 300 * 300).reshape(300, 300).astype(np.uint16)
    photo = preprocess(encode(Image.fromarray(values), "PNG"), SPEC)
    assert photo.mode.startswith("I")
    eight_bit = Image.fromarray((values >> 8).astype(np.uint8))
    np.testing.assert_array_equal(photo.crop, crop_of(eight_bit))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize(("alpha", "expected"), [(0, 255), (127, 128), (255, 0)])
def test_a_transparent_photo_lies_on_white(mode: str, alpha: int, expected: int) -> None:
    image = Image.new("RGBA", (300, 300), (0, 0, 0, alpha)).convert(mode)
    photo = preprocess(encode(image, "PNG"), SPEC)
    assert photo.mode == mode
    assert np.unique(photo.crop).tolist() == [expected]


def test_the_colour_of_transparent_pixels_does_not_bleed() -> None:
    image = Image.new("RGBA", (300, 300), (255, 0, 0, 0))
    image.paste((255, 255, 255, 255), (150, 0, 300, 300))
    assert preprocess(encode(image, "PNG"), SPEC).crop.min() == 255


@pytest.mark.parametrize("file_format", ["PNG", "GIF"])
def test_a_transparent_palette_entry_is_white(file_format: str) -> None:
    image = Image.new("P", (300, 300), 1)
    image.putpalette([0, 0, 255, 255, 0, 0])
    image.paste(0, (0, 0, 300, 150))
    crop = preprocess(encode(image, file_format, transparency=0), SPEC).crop
    assert crop[10, 100].tolist() == [255, 255, 255]
    assert crop[-10, 100].tolist() == [255, 0, 0]


def test_a_transparent_colour_of_an_rgb_png_is_white() -> None:
    image = Image.new("RGB", (300, 300), "blue")
    crop = preprocess(encode(image, "PNG", transparency=(0, 0, 255)), SPEC).crop
    assert np.unique(crop).tolist() == [255]


@pytest.mark.parametrize("file_format", ["GIF", "WEBP"])
def test_an_animation_is_its_first_frame(file_format: str) -> None:
    red, blue = (Image.new("RGB", (300, 300), colour) for colour in ("red", "blue"))
    data = encode(red, file_format, save_all=True, append_images=[blue])
    crop = preprocess(data, SPEC).crop
    assert largest_difference(crop, crop_of(red)) <= 4  # WebP is lossy


@pytest.mark.parametrize("file_format", DRAWN)
def test_every_accepted_format_is_decoded_and_named(file_format: str) -> None:
    photo = preprocess(encode(draw(), file_format), SPEC)
    assert photo.format == file_format
    assert mean_difference(photo.crop, crop_of(draw())) < 8  # GIF has 256 colours


def test_a_phones_two_picture_jpeg_is_a_jpeg() -> None:
    data = encode(draw(), "MPO", save_all=True, append_images=[draw(seed=1)])
    photo = preprocess(data, SPEC)
    assert photo.format == "JPEG"
    assert mean_difference(photo.crop, crop_of(draw())) < 3


def test_a_large_jpeg_is_decoded_at_a_fraction_and_looks_the_same() -> None:
    data = jpeg(2500, 1700, quality=90)
    photo = preprocess(data, SPEC)
    full = crop_of(Image.open(io.BytesIO(data)).convert("RGB"))
    assert 0 < mean_difference(photo.crop, full) < 0.5
    assert largest_difference(photo.crop, full) <= 4
    assert (photo.width, photo.height) == (2500, 1700)


def refuse(data: bytes, **options: Any) -> InvalidImage:
    with pytest.raises(InvalidImage) as caught:
        preprocess(data, SPEC, **options)
    return caught.value


def test_no_bytes_are_no_image() -> None:
    error = refuse(b"")
    assert type(error) is InvalidImage
    assert "empty (0 bytes)" in str(error)


@pytest.mark.parametrize("data", [b"hello, world", b"\x00" * 100, b"%PDF-1.7\n", b"\xff\xd8"])
def test_bytes_in_no_accepted_format_are_unsupported(data: bytes) -> None:
    error = refuse(data)
    assert type(error) is UnsupportedFormat
    assert "known format (JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF, HEIF)" in str(error)


@pytest.mark.parametrize("file_format", DRAWN)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_photo_is_refused(file_format: str, share: float) -> None:
    data = encode(draw(), file_format)
    error = refuse(data[: int(len(data) * share)])
    if file_format != "WEBP":  # a WebP states its length in the header
        assert f"the {file_format} cannot be decoded" in str(error)


def test_a_damaged_png_is_refused() -> None:
    data = bytearray(png())
    data[len(data) // 2] ^= 0xFF
    assert "the PNG cannot be decoded" in str(refuse(bytes(data)))


@pytest.mark.parametrize("warning", ["error", "ignore"])
@pytest.mark.parametrize("side", [9_000, 10_000, 30_000])
def test_a_bomb_is_refused_by_its_header(side: int, warning: Any) -> None:
    data = png_of(side, side)
    assert len(data) < 1000
    with warnings.catch_warnings():
        warnings.simplefilter(warning)
        error = refuse(data)
    assert type(error) is ImageTooLarge
    assert "64,000,000" in str(error)


def test_a_photo_over_the_callers_limit_is_refused_with_its_size() -> None:
    error = refuse(png(101, 100), max_pixels=10_000)
    assert str(error) == "the image is 101 x 100 = 10,100 pixels; at most 10,000 are accepted"
    assert isinstance(preprocess(png(100, 100), SPEC, max_pixels=10_000), Photo)


@pytest.mark.parametrize("file_format", [*DRAWN, "MPO"])
def test_a_header_that_is_given_is_not_read_again(
    file_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(draw(), file_format)
    cut = data[: len(data) // 2]
    expected, error, header = preprocess(data, SPEC), refuse(cut), read_header(data)
    monkeypatch.delattr(module, "read_header")
    photo = preprocess(data, SPEC, header=header)
    assert photo.format == expected.format
    np.testing.assert_array_equal(photo.crop, expected.crop)
    again = refuse(cut, header=header)
    assert (type(again), str(again)) == (type(error), str(error))
    assert "320 x 240" in str(refuse(data, header=header, max_pixels=1000))
    assert "empty" in str(refuse(b"", header=header))
