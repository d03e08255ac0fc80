"""What phones and scanners write: HEIC, AVIF, TIFF; read within bounds, or refused with advice."""

import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import AvifImagePlugin, Image

from alexnet import decoders
from alexnet.formats import FORMATS, format_of
from alexnet.header import read_header
from alexnet.preprocess import InvalidImage, Photo, UnsupportedFormat, preprocess
from alexnet.spec import Preprocess
from tests.photos import draw, encode

SPEC = Preprocess()
HEIC = (Path(__file__).parents[1] / "files" / "scene.heic").read_bytes()
needs_heic = pytest.mark.skipif(
    bool(decoders.missing("HEIF")), reason="pi-heif is not installed (pip install pi-heif)"
)


def apart(photo: Photo, image: Image.Image) -> float:
    expected = preprocess(encode(image, "PNG"), SPEC).crop
    return float(np.abs(photo.crop.astype(int) - expected).mean())


def refuse(data: bytes) -> str:
    with pytest.raises(InvalidImage) as caught:
        preprocess(data, SPEC)
    return str(caught.value)


def with_size(data: bytes, width: int, height: int) -> bytes:
    """Another size in the first box that says one."""
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]


def turned(orientation: int) -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return {"exif": exif}


@needs_heic
def test_a_heic_is_the_scene_in_it() -> None:
    photo = preprocess(HEIC, SPEC)
    assert (photo.format, photo.width, photo.height, photo.icc) == ("HEIF", 240, 180, "sRGB")
    assert np.abs(photo.crop.mean((0, 1)) - [118.3, 118.9, 98.4]).max() < 1
    assert preprocess(HEIC.replace(b"ftypheic", b"ftypmif1"), SPEC).format == "HEIF"


@needs_heic
def test_the_colours_of_a_heic_are_converted() -> None:
    at = HEIC.index(b"nclx") + 4
    found = preprocess(HEIC[:at] + b"\0\x0c" + HEIC[at + 2 :], SPEC)
    assert found.icc == "Display P3 → sRGB"


@needs_heic
@pytest.mark.parametrize("size", [(24, 18), (2400, 1800), (0, 0), (60_000, 60_000)])
def test_a_heic_of_another_size_than_it_says_is_refused(size: tuple[int, int]) -> None:
    assert "HEIF" in refuse(with_size(HEIC, *size)) or size == (60_000, 60_000)


@pytest.mark.parametrize(("name", "word"), [("HEIF", "HEIC"), ("AVIF", "AVIF")])
def test_without_a_decoder_the_answer_names_the_format_and_what_to_do(
    name: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "pi_heif", None)
    monkeypatch.setattr(decoders.features, "check", lambda feature: False)
    data = HEIC if name == "HEIF" else encode(draw(), "AVIF")
    assert format_of(data) is FORMATS[name]
    with pytest.raises(UnsupportedFormat, match=f"{word} cannot be decoded here.*as a JPEG"):
        preprocess(data, SPEC)


def test_a_decoder_has_one_thread() -> None:
    assert AvifImagePlugin.DEFAULT_MAX_THREADS == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["AVIF", "TIFF"])
def test_a_turned_photo_is_upright(file_format: str, orientation: int) -> None:
    photo = preprocess(encode(draw(), file_format, **turned(orientation)), SPEC)
    assert photo.orientation == orientation
    other = preprocess(encode(draw(), "JPEG", quality=95, **turned(orientation)), SPEC)
    assert np.abs(photo.crop.astype(int) - other.crop).mean() < 3


@pytest.mark.parametrize(
    ("file_format", "mode"),
    [("AVIF", "RGB"), ("TIFF", "RGB"), ("PNG", "RGB"), ("WEBP", "RGB"), ("GIF", "P")],
)
def test_of_several_pictures_the_first_is_seen(file_format: str, mode: str) -> None:
    several = [draw(mode=mode, seed=seed) for seed in range(4)]
    for others in ([], several[1:2], several[1:]):
        data = encode(several[0], file_format, save_all=True, append_images=others)
        photo = preprocess(data, SPEC)
        assert photo.frames == (2 if others else 1)
        assert apart(photo, several[0].convert("RGB")) < 2


def test_an_avif_whose_stream_is_larger_than_it_says_is_refused() -> None:
    data = encode(draw(3000, 2000), "AVIF", speed=10)
    assert apart(preprocess(data, SPEC), draw(3000, 2000)) < 2
    assert "larger than its picture" in refuse(with_size(data, 24, 18))


@pytest.mark.parametrize(
    "options",
    [{}, *({"compression": f"tiff_{name}"} for name in ("lzw", "deflate", "adobe_deflate"))],
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"])
def test_a_tiff_is_seen_as_drawn(mode: str, options: dict[str, Any]) -> None:
    shown = draw(mode=mode).convert("RGB") if mode == "CMYK" else draw(mode=mode)
    assert apart(preprocess(encode(draw(mode=mode), "TIFF", **options), SPEC), shown) < 1


def tag(data: bytes, number: int, value: int) -> bytes:
    """Another value of a number in the directory."""
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    changed = bytearray(data)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, entry) == (number,):
            struct.pack_into("<HII", changed, entry + 2, 4, 1, value)
    return bytes(changed)


@pytest.mark.parametrize(
    ("number", "value", "message"),
    [
        (259, 34_925, "compression 34925"),
        (262, 8, "photometric interpretation 8"),
        (258, 32, "32 bits a sample"),
    ],
)
def test_a_tiff_that_is_not_read_says_why(number: int, value: int, message: str) -> None:
    text = refuse(tag(encode(draw(mode="L"), "TIFF"), number, value))
    assert message in text
    assert "save it as a PNG or JPEG" in text


def test_a_tiff_of_a_progressive_jpeg_is_refused() -> None:
    stream = encode(draw(), "JPEG", progressive=True)
    tiff = encode(draw(), "TIFF", compression="jpeg")
    data = tag(tag(tiff + stream, 273, len(tiff)), 279, len(stream))
    assert "progressive" in refuse(tag(data, 278, 240))


def test_a_directory_that_points_at_everything_many_times_is_given_up_at_once() -> None:
    body = bytes(4_000_000)
    entries = b"".join(struct.pack("<HHII", 273 + i % 9, 7, len(body), 8) for i in range(400))
    size = struct.pack("<HHIIHHII", 256, 4, 1, 64, 257, 4, 1, 64)
    head = b"II*\0" + struct.pack("<I", 8 + len(body))
    data = head + body + struct.pack("<H", 402) + size + entries + bytes(4)
    start = time.process_time()
    assert "more in its tags" in refuse(data)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize("file_format", ["TIFF", "AVIF", "HEIF"])
def test_no_damage_raises_anything_but_a_refusal(file_format: str) -> None:
    whole = HEIC if file_format == "HEIF" else encode(draw(48, 36), file_format)
    if decoders.missing(file_format):
        pytest.skip("it cannot be decoded here")
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole[: rng.integers(20, len(whole) + 1)])
        for at in rng.integers(0, min(len(damaged), 600), rng.integers(1, 5)):
            damaged[at] = rng.integers(256)
        read_header(bytes(damaged))
        try:
            preprocess(bytes(damaged), SPEC, max_pixels=1_000_000)
        except InvalidImage as error:
            assert "object at" not in str(error)  # noqa: PT017
