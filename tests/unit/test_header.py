"""The size from the first bytes: what Pillow says, or nothing, in no time."""

import io
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from alexnet import shown as module
from alexnet.header import Header, read_header
from alexnet.preprocess import decoded_bytes, preprocess
from alexnet.samples import KINDS, photo
from alexnet.spec import Preprocess
from tests.photos import DRAWN, draw, encode, jpeg, png

ROOT = Path(__file__).parents[2]
PHOTOS = ROOT.parent / "shared" / "photos"
MODES = {
    "JPEG": ["RGB", "L", "CMYK"],
    "PNG": ["RGB", "RGBA", "L", "LA", "P", "1"],
    "WEBP": ["RGB", "RGBA"],
    "GIF": ["RGB", "RGBA", "L", "P", "1"],
    "BMP": ["RGB", "RGBA", "L", "P", "1"],
    "TIFF": ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"],
    "AVIF": ["RGB", "RGBA", "L"],
}
assert list(MODES) == DRAWN


def by_pillow(data: bytes) -> Header:
    with Image.open(io.BytesIO(data)) as image:
        form = "JPEG" if image.format == "MPO" else str(image.format)
        return Header(form, *image.size, bool(image.info.get("progressive")))


@pytest.mark.parametrize("size", [(2, 1), (320, 240), (17, 1100)])
@pytest.mark.parametrize(
    ("file_format", "mode"),
    [(file_format, mode) for file_format, modes in MODES.items() for mode in modes],
)
def test_the_header_says_what_pillow_says(
    file_format: str, size: tuple[int, int], mode: str
) -> None:
    data = encode(draw(*size, mode), file_format)
    assert read_header(data) == by_pillow(data)


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("JPEG", {"progressive": True}),
        ("JPEG", {"exif": b"Exif\0\0" + bytes(60_000), "comment": b"x" * 60_000}),
        ("JPEG", {"icc_profile": bytes(1_000_000)}),
        ("MPO", {"save_all": True, "append_images": [draw(64, 64)]}),
        ("PNG", {"save_all": True, "append_images": [draw()]}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0", "xmp": b"x" * 5000}),
        ("WEBP", {"save_all": True, "append_images": [draw(seed=1)]}),
        ("GIF", {"save_all": True, "append_images": [draw(seed=1)], "loop": 0}),
        ("GIF", {"comment": b"x" * 20_000}),
    ],
)
def test_what_stands_before_the_size_is_stepped_over(file_format: str, options: Any) -> None:
    data = encode(draw(), file_format, **options)
    assert read_header(data) == by_pillow(data)


def test_a_thumbnail_in_the_exif_block_is_not_taken_for_the_photo() -> None:
    colours = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    thumbnail = b"Exif\0\0II*\0\x08\0\0\0\0\0" + jpeg(16, 12)
    header = read_header(jpeg(320, 240, exif=thumbnail, icc_profile=colours))
    assert header == Header("JPEG", 320, 240)


def jpeg_with(extra: bytes) -> bytes:
    """Something after the first segment."""
    data = jpeg(33, 22)
    end = 4 + struct.unpack_from(">H", data, 4)[0]
    return data[:end] + extra + data[end:]


@pytest.mark.parametrize(
    "extra",
    [
        *(b"\xff", b"\xff" * 999, b"\0" * 2000, b"\xff\xfe\0\2" * 520, b"\xff\0", b"\xff\1"),
        b"\xff\xfe\0\6xx\xff\xc0",  # a comment that looks like the start of a frame
        b"\xff\xc4\0\x13" + bytes(17),  # a Huffman table, before the frame for once
    ],
)
def test_padding_and_any_other_segment_are_stepped_over(extra: bytes) -> None:
    assert read_header(jpeg_with(extra)) == Header("JPEG", 33, 22)


def test_a_bitmap_from_top_to_bottom_and_one_of_os_2() -> None:
    data = bytearray(encode(draw(30, 20), "BMP"))
    data[22:26] = struct.pack("<i", -20)
    assert read_header(bytes(data)) == by_pillow(bytes(data)) == Header("BMP", 30, 20)
    core = struct.pack("<IHHHH", 12, 30, 20, 1, 24)
    old = b"BM" + struct.pack("<III", 26 + 30 * 20 * 3, 0, 26) + core + bytes(30 * 20 * 3 + 40)
    assert read_header(old) == by_pillow(old) == Header("BMP", 30, 20)


def test_a_first_frame_larger_than_the_screen_counts() -> None:
    data = bytearray(encode(draw(200, 100), "GIF"))
    data[6:10] = struct.pack("<HH", 1, 150)
    assert read_header(bytes(data)) == by_pillow(bytes(data)) == Header("GIF", 200, 150)


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the shared photos are not on this machine")
def test_photos_of_the_world() -> None:
    files = sorted(path for path in PHOTOS.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg"))
    assert files
    for path in files:
        data = path.read_bytes()
        assert read_header(data) == by_pillow(data), path


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\xff\xd8", b"hello, world", bytes(99), b"%PDF-1.7"),
        b"\xff\xd8\xff\xda\0\4\0\0" + jpeg(),
        b"\x89PNG\r\n\x1a\n\0\0\0\x20tEXt" + bytes(range(32)),
        b"RIFF\0\0\0\0WEBPVP9 " + bytes(30),
        b"GIF89a" + bytes(20),
        png(9, 9).replace(b"IHDR\0\0\0\x09", b"IHDR\0\0\0\0"),
    ],
)
def test_bytes_that_do_not_tell_have_no_header(data: bytes) -> None:
    assert read_header(data) is None


@pytest.mark.parametrize("kind", KINDS)
def test_no_truncation_and_no_damage_raises(kind: str) -> None:
    whole = photo(kind, 0.01)
    header = read_header(whole)
    rng = np.random.default_rng(0)
    for length in range(1000):
        assert read_header(whole[:length]) in (None, header)
    for _ in range(2000):
        damaged = bytearray(whole[:1500])
        for at in rng.integers(0, rng.choice([40, 1500]), 4):
            damaged[at] = rng.integers(256)
        found = read_header(bytes(damaged))
        assert found is None or (found.width > 0 and found.height > 0)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff\xfe\0\2" * 5_000_000,
        b"\xff\xd8" + b"\xff" * 20_000_000,
        b"\xff\xd8\xff\xfe\0\2" + b"\0" * 20_000_000,
        b"\xff\xd8\xff\xfe\0\2" + (b"\0" * 1000 + b"\xff\1") * 20_000,
        b"GIF89a" + bytes(7) + b"!\xfe" + b"\1x" * 10_000_000,
    ],
    ids=["segments", "padding", "junk", "junk and markers", "blocks"],
)
def test_twenty_megabytes_without_a_size_are_given_up_at_once(data: bytes) -> None:
    start = time.process_time()
    assert read_header(data) is None
    assert time.process_time() - start < 0.1  # walking through all of it takes seconds


def test_a_kind_is_what_its_decoder_is_like() -> None:
    assert Header("JPEG", 1, 1, progressive=True).kind == "progressive JPEG"
    assert [read_header(photo(kind, 0.01)).kind for kind in KINDS] == list(KINDS)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("side", "divisor"), [(1023, 1), (1024, 2), (2048, 4), (4095, 4), (4096, 8)]
)
def test_the_bytes_of_a_jpeg_are_those_that_pillow_decodes(
    side: int, divisor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    whole = module.eight_bit

    def watch(image: Image.Image) -> Image.Image:
        image.load()
        # RGB takes four bytes in Pillow, and a row some of its own
        decoded.append(4 * image.width * image.height + 64 * image.height)
        assert image.height == -(-side // divisor)
        return whole(image)

    monkeypatch.setattr(module, "eight_bit", watch)
    data = encode(Image.new("RGB", (side + 99, side)), "JPEG")
    preprocess(data, Preprocess())
    header = read_header(data)
    assert header
    assert decoded_bytes(header, Preprocess()) == pytest.approx(decoded[0], rel=0.01)


PEAK = """
import io, sys
from collections.abc import Callable
from pathlib import Path
from PIL import Image
from alexnet.preprocess import preprocess
from alexnet.spec import Preprocess
def most():
    (line,) = [l for l in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in l]
    return int(line.split()[1]) * 1024
data, small = sys.stdin.buffer.read(), io.BytesIO()
Image.new("RGBA", (9, 9)).save(small, sys.argv[1])
preprocess(small.getvalue(), Preprocess())
before = most()
preprocess(data, Preprocess())
print(most() - before)
"""


COSTLIEST: list[tuple[str, str, dict[str, Any]]] = [
    ("JPEG", "CMYK", {"progressive": True, "subsampling": 0}),
    ("PNG", "RGBA", {"compress_level": 1}),
    ("WEBP", "RGBA", {"method": 0}),
    ("GIF", "P", {"transparency": 0}),
    ("BMP", "RGB", {}),
    ("TIFF", "RGBA", {"compression": "tiff_lzw"}),
    ("AVIF", "RGBA", {"speed": 10}),
]
assert [file_format for file_format, *_ in COSTLIEST] == DRAWN


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(("file_format", "mode", "options"), COSTLIEST)
def test_decoding_never_holds_more_than_was_counted(
    file_format: str, mode: str, options: Any
) -> None:
    data = encode(draw(2000, 1500, mode), file_format, **options)
    kind = "PNG" if file_format == "JPEG" else file_format
    done = subprocess.run(
        [sys.executable, "-c", PEAK, kind], cwd=ROOT, input=data, capture_output=True, check=True
    )
    header = read_header(data)
    assert header
    assert int(done.stdout) <= len(data) + decoded_bytes(header, Preprocess()) + 2_000_000


def test_made_photos_are_of_the_kind_and_size_asked_for_and_the_same_each_time() -> None:
    for kind in KINDS:
        data = photo(kind, 0.1)
        header = read_header(data)
        assert header
        assert header.kind == kind
        assert header.width * header.height == pytest.approx(100_000, rel=0.01)
        assert data == photo(kind, 0.1) != photo(kind, 0.1, seed=1)


def a_tiff_whose_width_is_millions_of_numbers() -> bytes:
    numbers = bytes(16_000_000)
    count = len(numbers) // 4
    sides = b"".join(struct.pack("<HHII", tag, 4, count, 8) for tag in (256, 257))
    return b"II*\0" + struct.pack("<I", 8 + len(numbers)) + numbers + struct.pack("<H", 2) + sides


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def a_heic_of_thousands_of_associations() -> bytes:
    nothing = struct.pack(">HB", 9, 0) * 2000
    associations = box(b"ipma", struct.pack(">II", 0, 2000) + nothing) * 1900
    side = box(b"ispe", struct.pack(">III", 0, 64, 64))
    properties = box(b"iprp", box(b"ipco", side) + associations)
    meta = box(b"meta", bytes(4) + box(b"pitm", struct.pack(">IH", 0, 1)) + properties)
    return box(b"ftyp", b"heic" + bytes(4)) + meta


@pytest.mark.parametrize(
    "make", [a_tiff_whose_width_is_millions_of_numbers, a_heic_of_thousands_of_associations]
)
def test_a_size_that_is_said_with_megabytes_is_given_up_at_once(make: Callable[[], bytes]) -> None:
    data = make()
    start = time.process_time()
    assert read_header(data) is None
    assert time.process_time() - start < 0.1
