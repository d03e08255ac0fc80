"""Files that every browser shows, with the same crop; and those whose picture is not whole."""

import struct
import zlib

import numpy as np
import pytest

from alexnet.preprocess import InvalidImage, Photo, preprocess
from alexnet.spec import Preprocess
from tests.photos import draw, encode, jpeg, png
from tests.segments import before_scan, chunk, exif, png_of, segment, with_chunks, with_segment

SPEC = Preprocess()


def shown(data: bytes, whole: bytes) -> Photo:
    photo = preprocess(data, SPEC)
    np.testing.assert_array_equal(photo.crop, preprocess(whole, SPEC).crop)
    return photo


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [(320, 240), (1300, 1100)])
def test_a_jpeg_that_lacks_only_its_end_marker_is_shown(
    size: tuple[int, int], progressive: bool
) -> None:
    whole = jpeg(*size, progressive=progressive)
    assert shown(whole[:-2], whole).warnings == ("the JPEG lacks its end marker",)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("missing", [4, 10, 50, 300])
def test_a_jpeg_that_lacks_pixels_is_refused(missing: int, progressive: bool) -> None:
    with pytest.raises(InvalidImage, match="the JPEG cannot be decoded"):
        preprocess(jpeg(progressive=progressive)[:-missing], SPEC)


@pytest.mark.parametrize(
    "extra",
    [b"\xff" * 600, bytes(2000), segment(0xFE, b"x") * 600, segment(0xE5, bytes(65_000)) * 9],
    ids=["fill", "junk", "comments", "segments"],
)
def test_what_stands_between_the_segments_of_a_jpeg_is_stepped_over(extra: bytes) -> None:
    shown(with_segment(extra), jpeg())
    shown(before_scan(extra), jpeg())


@pytest.mark.parametrize("kind", [b"tEXt", b"iCCP", b"eXIf", b"gAMA", b"tRNS", b"abCD"])
def test_a_damaged_ancillary_chunk_costs_no_photo(kind: bytes) -> None:
    shown(with_chunks(chunk(kind, b"name\0\0content", damaged=True)), png())


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"pHYs", bytes(5)),
        chunk(b"zTXt", b"name\0\7" + bytes(9)),
        chunk(b"zTXt", b"name\0\0" + zlib.compress(bytes(1_200_000))),
        chunk(b"iTXt", b"name\0\1\0\0\0" + zlib.compress(bytes(1_200_000))) * 50,
        chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(1_200_000))),
        chunk(b"iCCP", b"name\0\1" + bytes(9)),
        chunk(b"tRNS", b"\0"),
        chunk(b"acTL", bytes(8)) * 2,
    ],
    ids=["pHYs", "method", "zTXt", "iTXt", "profile", "profile method", "tRNS", "acTL"],
)
def test_an_odd_ancillary_chunk_costs_no_photo(extra: bytes) -> None:
    shown(with_chunks(extra), png())
    end = png().index(b"IEND") - 4
    shown(png()[:end] + extra + png()[end:], png())


@pytest.mark.parametrize(
    "extension",
    [b"!\xfe" + b"\1x" * 600 + b"\0", b"!\xff\x0bXMP DataXMP" + b" " * 33 * 600 + b"\0"],
    ids=["comment", "XMP"],
)
def test_long_extensions_of_a_gif_are_stepped_over(extension: bytes) -> None:
    whole = encode(draw(), "GIF")
    at = 13 + (6 << (whole[10] & 7))
    shown(whole[:at] + extension + whole[at:], whole)


@pytest.mark.parametrize(
    ("block", "turned"),
    [
        (exif(3, struct.pack("<H", 6)), 6),
        (exif(4, struct.pack("<I", 6)), 6),
        (exif(3, struct.pack("<H", 9)), 1),
        (exif(3, struct.pack("<HH", 6, 6), count=2), 1),
        (exif(5, struct.pack("<II", 6, 1)), 1),
        (exif(11, struct.pack("<f", 6.0)), 1),
        (exif(2, b"6\0"), 1),
        (exif(7, b"\6"), 1),
        (exif(3, b"")[:20], 1),
        (b"Exif\0\0II*\0\xff\xff\xff\xff", 1),
    ],
)
def test_an_orientation_is_a_count_or_there_is_none(block: bytes, turned: int) -> None:
    for data in (
        with_segment(segment(0xE1, block)),
        with_chunks(chunk(b"eXIf", block[6:].ljust(8, b"\0"))),
        encode(draw(), "WEBP", exif=block),
    ):
        assert preprocess(data, SPEC).orientation == turned


def test_an_orientation_in_xmp_or_text_does_not_turn_a_photo() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    adobe = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)
    assert shown(with_segment(adobe), jpeg()).orientation == 1
    raw = b"Raw profile type exif\0\0" + zlib.compress(
        b"\nexif\n      32\n" + exif(3, b"\6\0").hex().encode()
    )
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    assert shown(with_chunks(chunk(b"zTXt", raw), text), png()).orientation == 1


def test_a_png_whose_bits_or_colours_are_none_is_refused() -> None:
    clear = chunk(b"tRNS", bytes(6))
    for bits in range(256):
        for colours in (0, 2, 3, 7):
            if bits in (1, 2, 4, 8, 16) and colours != 7:
                continue
            with pytest.raises(InvalidImage, match="the PNG cannot be decoded"):
                preprocess(png_of([bytes(8)] * 8, 8, bits, colours, clear), SPEC)
