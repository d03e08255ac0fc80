"""Rare layouts of pixels, as browsers show them."""

import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from alexnet.preprocess import InvalidImage, preprocess
from alexnet.spec import Preprocess
from tests.photos import draw, encode
from tests.segments import bmp_of, chunk, png_of

SPEC = Preprocess()


def crop(data: bytes) -> NDArray[np.uint8]:
    return preprocess(data, SPEC).crop


def same(a: NDArray[np.uint8], b: NDArray[np.uint8], most: float = 0.5) -> None:
    assert np.abs(a.astype(int) - b).mean() < most


@pytest.mark.parametrize(("bits", "row"), [(1, 0b01010101), (2, 0b01101101), (4, 0x16)])
def test_the_clear_grey_of_few_bits_is_white(bits: int, row: int) -> None:
    clear = chunk(b"tRNS", struct.pack(">H", 1))
    width, shades = 320, 8 // bits
    values = [row >> (8 - bits * (i + 1)) & ((1 << bits) - 1) for i in range(shades)]
    grey = [255 if value == 1 else 255 * value // ((1 << bits) - 1) for value in values]
    expected = Image.fromarray(np.tile(np.array(grey, np.uint8), (320, width // shades)))
    found = crop(png_of([bytes([row]) * (width // shades)] * 320, width, bits, 0, clear))
    same(found, crop(encode(expected, "PNG")), 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_clear_colour_of_16_bits_is_that_colour_and_not_its_neighbour(channels: int) -> None:
    clear, near = struct.pack(">H", 0x4001), struct.pack(">H", 0x4002)
    rows = [clear * channels * 150 + near * channels * 150] * 300
    colours = {1: 0, 3: 2}[channels]
    found = crop(png_of(rows, 300, 16, colours, chunk(b"tRNS", clear * channels)))
    assert found[100, 20].tolist() == [255] * 3
    assert found[100, -20].tolist() == [0x40] * 3


@pytest.mark.parametrize("shape", [(300, 300), (100, 200)])
def test_an_animation_with_a_hidden_picture_shows_its_first_frame(shape: tuple[int, int]) -> None:
    height, width = shape
    frame = zlib.compress((b"\0" + b"\xff\0\0" * width) * height)
    control = struct.pack(">IIIIIHHBB", 0, width, height, 0, 0, 1, 10, 0, 0)
    whole = png_of([b"\0\0\xff" * 300] * 300, 300, 8, 2, chunk(b"acTL", struct.pack(">II", 1, 0)))
    moving = chunk(b"fcTL", control) + chunk(b"fdAT", struct.pack(">I", 1) + frame)
    found = crop(whole[:-12] + moving + whole[-12:])
    assert found[5, 5].tolist() == [255, 0, 0]
    assert found[-5, -5].tolist() == ([255, 0, 0] if height == 300 else [255] * 3)


@pytest.mark.parametrize("file_format", ["GIF", "WEBP"])
def test_the_canvas_outside_the_first_frame_is_white(file_format: str) -> None:
    red = encode(Image.new("RGB", (100, 300), "red"), "GIF")
    if file_format == "GIF":
        data = red[:6] + struct.pack("<HH", 300, 300) + red[10:]
    else:
        picture = encode(Image.new("RGB", (100, 300), "red"), "WEBP", lossless=True)[12:]
        size = [(299).to_bytes(3, "little")] * 2
        box = bytes(6) + (99).to_bytes(3, "little") + size[1] + bytes(4)
        body = b"WEBPVP8X" + struct.pack("<II", 10, 0x02) + b"".join(size)
        body += b"ANIM" + struct.pack("<IIH", 6, 0, 0)
        body += b"ANMF" + struct.pack("<I", len(box + picture)) + box + picture
        data = b"RIFF" + struct.pack("<I", len(body)) + body
    photo = preprocess(data, SPEC)
    assert (photo.width, photo.height) == (300, 300)
    assert photo.crop[100, 10].tolist() == [255, 0, 0]
    assert photo.crop[100, -10].tolist() == [255] * 3


IMAGE = draw(320, 240)
PIXELS = np.asarray(IMAGE)[::-1].astype(np.uint32)


@pytest.mark.parametrize(
    ("bits", "masks"),
    [
        (16, (0xF00, 0xF0, 0xF)),
        (16, (0xF00, 0xF0, 0xF, 0xF000)),
        (16, (0x1F, 0x7E0, 0xF800)),
        (32, (0x3FF00000, 0xFFC00, 0x3FF)),
        (32, (0xFF, 0xFF00, 0xFF0000)),
        (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    ],
)
@pytest.mark.parametrize("opaque", [True, False])
def test_a_bitmap_of_any_masks_is_read(bits: int, masks: tuple[int, ...], opaque: bool) -> None:
    packed = np.zeros(PIXELS.shape[:2], np.uint32)
    for channel, mask in enumerate(masks[:3]):
        shift = (mask & -mask).bit_length() - 1
        values = np.rint(PIXELS[..., channel] / 255 * (mask >> shift)).astype(np.uint32)
        packed |= values << np.uint32(shift)
    if opaque and len(masks) == 4:
        packed |= np.uint32(masks[3])
    data = packed.astype(f"<u{bits // 8}").tobytes()
    found = crop(bmp_of(data, 320, 240, bits, compression=3, masks=masks))
    same(found, crop(encode(IMAGE, "PNG")), 0.5 if bits == 32 else 5)


def test_a_bitmap_with_the_short_header_of_os_2_is_read() -> None:
    header = struct.pack("<IiiHH", 16, 320, 240, 1, 24)
    pixels = PIXELS[..., ::-1].astype(np.uint8).tobytes()
    data = struct.pack("<2sIII", b"BM", 30 + len(pixels), 0, 30) + header + pixels
    same(crop(data), crop(encode(IMAGE, "PNG")))


def test_a_palette_of_more_colours_than_an_index_reaches_is_read() -> None:
    palette = b"".join(bytes([i, 255 - i, i // 2, 0]) for i in range(256)) + bytes(44 * 4)
    pixels = PIXELS[..., 0].astype(np.uint8)
    shown = np.stack([pixels // 2, 255 - pixels, pixels], -1)[::-1]
    found = crop(bmp_of(pixels.tobytes(), 320, 240, 8, palette=palette))
    same(found, crop(encode(Image.fromarray(shown), "PNG")))


@pytest.mark.parametrize("compression", [1, 2, 4, 5])
def test_a_bitmap_that_is_packed_is_refused_with_advice(compression: int) -> None:
    with pytest.raises(InvalidImage, match=r"not supported; (save|send)"):
        preprocess(bmp_of(bytes(99), 9, 9, 8, compression=compression), SPEC)
