"""What would cost much for a few bytes is refused before it is decoded, and the rest has an end."""

import struct
import time
from typing import Any

import pytest

from alexnet.header import Header, read_header
from alexnet.preprocess import (
    MAX_PIXELS,
    ImageTooLarge,
    InvalidImage,
    check_pixels,
    decoded_bytes,
    preprocess,
)
from alexnet.spec import Preprocess
from server.config import Config
from tests.photos import jpeg, png
from tests.segments import before_scan, bmp_of, chunk, segment, with_chunks, with_segment

SPEC = Preprocess()


def frame_at(data: bytes) -> int:
    return max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))


def resized(data: bytes, width: int, height: int) -> bytes:
    at = frame_at(data)
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def of_scans(scans: int, side: int, **options: Any) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = jpeg(64, 64, progressive=True, **options)
    last = data.rindex(b"\xff\xda")
    again = data[last:-2] * (scans - data.count(b"\xff\xda"))
    return resized(data[:-2] + again + b"\xff\xd9", side, side)


def refused(data: bytes, most_s: float = 0.1) -> str:
    start = time.process_time()
    with pytest.raises(InvalidImage) as caught:
        preprocess(data, SPEC)
    assert time.process_time() - start < most_s
    return str(caught.value)


@pytest.mark.parametrize(("scans", "side"), [(101, 64), (11, 8000), (90, 7000), (5000, 64)])
def test_more_scans_than_a_photo_has_are_refused_at_once(scans: int, side: int) -> None:
    assert "too many scans" in refused(of_scans(scans, side))


def test_the_most_scans_that_are_allowed_are_soon_decoded() -> None:
    start = time.process_time()
    preprocess(of_scans(100, 2528), SPEC)
    assert time.process_time() - start < 5  # about 1 on a slow core; minutes without the bound


def test_a_hidden_scan_counts() -> None:
    data = of_scans(101, 64)
    last = data.rindex(b"\xff\xda")
    hidden = data[:last] + segment(0xFE, b"\xff\xd9") + data[last:]
    assert "too many scans" in refused(hidden)


def test_the_coefficients_of_a_sequential_jpeg_of_several_scans_are_counted() -> None:
    data = jpeg(64, 64)
    at = data.index(b"\xff\xda")
    one = data[:at] + segment(0xDA, b"\1\1\0\0\x3f\0") + data[at + 14 :]
    assert read_header(one) == Header("JPEG", 64, 64, progressive=True)


@pytest.mark.parametrize(
    ("marker", "bits", "words"),
    [
        *((marker, 8, "arithmetic coding") for marker in (0xC9, 0xCA, 0xCB, 0xCE)),
        *((marker, 8, "lossless or hierarchical") for marker in (0xC3, 0xC5, 0xC6)),
        (0xC1, 12, "of 12 bits"),
    ],
)
def test_a_jpeg_that_no_browser_shows_is_named(marker: int, bits: int, words: str) -> None:
    data = bytearray(jpeg(64, 64))
    at = frame_at(bytes(data))
    data[at + 1], data[at + 4] = marker, bits
    assert words in refused(bytes(data))


def test_segments_without_end_behind_the_frame_are_given_up_at_once() -> None:
    refused(before_scan(segment(0xE1, b"Exif\0\0" + bytes(20)) * 100_000))
    refused(before_scan(segment(0xDB, (b"\0" + bytes(64)) * 900) * 200))
    whole = before_scan(segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 300)
    start = time.process_time()
    preprocess(whole, SPEC)  # 18 MB, of which the decoder sees nothing
    assert time.process_time() - start < 0.5


def test_packed_text_is_never_unpacked() -> None:
    bomb = chunk(b"iTXt", b"name\0\1\0\0\0" + b"\x78\x9c" + bytes(1000))
    start = time.process_time()
    preprocess(with_chunks(bomb * 1000), SPEC)
    assert time.process_time() - start < 0.5
    assert "too many chunks" in refused(with_chunks(chunk(b"abCD", b"") * 60_000), 1)


@pytest.mark.parametrize("size", [(1, 70_000), (70_000, 1), (1, 1 << 24)])
def test_a_side_is_bounded_however_thin_the_picture(size: tuple[int, int]) -> None:
    with pytest.raises(ImageTooLarge, match="65,535 a side"):
        preprocess(bmp_of(b"", *size, 24), SPEC)


def test_rows_and_whole_blocks_are_counted() -> None:
    assert decoded_bytes(Header("BMP", 1, 60_000), SPEC) >= 64 * 60_000
    thin = Header("JPEG", 1, 60_000, progressive=True)
    assert decoded_bytes(thin, SPEC) >= 8 * 16 * 60_000


@pytest.mark.parametrize(
    ("form", "size", "progressive", "allowed"),
    [
        ("PNG", (8160, 6144), False, True),
        ("PNG", (8200, 8200), False, False),
        ("JPEG", (12_000, 9000), False, True),
        ("JPEG", (12_000, 9000), True, False),
        ("JPEG", (20_000, 20_000), False, False),
    ],
)
def test_the_bound_is_on_pixels_that_are_decoded(
    form: str, size: tuple[int, int], progressive: bool, allowed: bool
) -> None:
    header = Header(form, *size, progressive)
    if allowed:
        check_pixels(header, SPEC, MAX_PIXELS)
    else:
        with pytest.raises(ImageTooLarge, match="are accepted"):
            check_pixels(header, SPEC, MAX_PIXELS)


@pytest.mark.parametrize(
    "data", [png()[:900], jpeg()[:900], with_segment(b"", jpeg())[:700], png()[:29] + bytes(99)]
)
def test_no_error_speaks_of_the_library(data: bytes) -> None:
    message = refused(data, 5)
    assert not any(word in message for word in ("decoder", "object", "0x", "Plugin", "PIL", "b'"))
    assert "send all of it" in message or "save it anew" in message


@pytest.mark.parametrize(
    ("form", "megapixels"),
    [*((form, 63) for form in ("PNG", "GIF", "WEBP", "JPEG")), ("TIFF", 54), ("AVIF", 43)],
)
def test_an_idle_server_has_room_for_what_it_says(form: str, megapixels: int) -> None:
    room = Config().max_photo_bytes
    side = round((megapixels * 1e6) ** 0.5)
    header = Header(form, side, side, progressive=form == "JPEG")
    assert decoded_bytes(header, SPEC) < room - room // 8
    check_pixels(header, SPEC, MAX_PIXELS)
