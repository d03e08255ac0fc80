"""Colours as browsers show them: compared with Chromium, to a level of 255."""

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from alexnet import colour, icc
from alexnet.preprocess import Photo, preprocess
from alexnet.spec import Preprocess
from tests.photos import draw, encode
from tests.profiles import ADOBE, GREY_LINEAR, LINEAR, OF_SRGB, P3, meant_by, of_codes, press, rgb

SPEC = Preprocess()
LOSSLESS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 100, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
}


def mean_difference(a: Photo, b: Photo) -> float:
    return float(np.abs(a.crop.astype(int) - b.crop).mean())


def shown(image: Image.Image, file_format: str = "PNG", **options: Any) -> Photo:
    return preprocess(encode(image, file_format, **LOSSLESS[file_format], **options), SPEC)


@pytest.mark.parametrize("file_format", LOSSLESS)
@pytest.mark.parametrize(
    ("profile", "name"), [(P3, "Display P3"), (ADOBE, "Adobe RGB"), (LINEAR, "Linear")]
)
def test_a_photo_with_a_profile_looks_as_it_is_meant(
    file_format: str, profile: bytes, name: str
) -> None:
    numbers = meant_by(profile, draw())
    photo = shown(numbers, file_format, icc_profile=profile)
    assert mean_difference(photo, shown(draw())) < 1.6
    assert mean_difference(shown(numbers), shown(draw())) > 2 * mean_difference(
        photo, shown(draw())
    )
    assert (photo.icc, photo.warnings) == (f"{name} → sRGB", ())


@pytest.mark.parametrize("mode", ["L", "LA"])
@pytest.mark.parametrize("profile", [GREY_LINEAR, LINEAR])
def test_grey_is_converted_by_a_profile_of_grey_or_of_colours(mode: str, profile: bytes) -> None:
    grey = draw(mode="L")
    numbers = meant_by(GREY_LINEAR, grey).convert(mode)
    photo = shown(numbers, icc_profile=profile)
    assert mean_difference(photo, shown(grey)) < 2
    assert mean_difference(shown(numbers), shown(grey)) > 20
    if mode == "L":
        assert mean_difference(shown(numbers, "JPEG", icc_profile=profile), shown(grey)) < 3


def test_the_inks_of_a_cmyk_jpeg_are_those_of_its_profile() -> None:
    profile = press(cyan=(55, -37, -50), black=(16, 0, 0))
    for ink, wanted in [((255, 0, 0, 0), [0, 147, 216]), ((0, 0, 0, 255), [40, 40, 40])]:
        inked = encode(Image.new("CMYK", (64, 64), ink), "JPEG", icc_profile=profile, quality=100)
        photo = preprocess(inked, SPEC)
        assert photo.crop.mean((0, 1)) == pytest.approx(wanted, abs=8)
        assert photo.icc == "A press → sRGB"


def test_a_palette_is_converted_and_transparency_stays() -> None:
    palette = meant_by(P3, draw()).quantize(256)
    assert mean_difference(shown(palette, icc_profile=P3), shown(palette)) > 2
    clear = draw(mode="RGBA")
    numbers = meant_by(P3, clear)
    numbers.putalpha(clear.getchannel("A"))
    assert mean_difference(shown(numbers, icc_profile=P3), shown(clear)) < 1


@pytest.mark.parametrize("profile", [OF_SRGB, of_codes(1, 13)])
def test_a_profile_of_srgb_changes_no_pixel_whatever_its_name(profile: bytes) -> None:
    plain, stated = shown(draw(), "JPEG"), shown(draw(), "JPEG", icc_profile=profile)
    np.testing.assert_array_equal(plain.crop, stated.crop)
    assert (plain.icc, stated.icc) == ("", "sRGB")


def with_chunks(image: Image.Image, *chunks: tuple[bytes, bytes]) -> bytes:
    data = encode(image, "PNG")
    extra = b""
    for kind, body in chunks:
        extra += (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )
    return data[:33] + extra + data[33:]


def gamma(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(value * 100_000))


def primaries(code: int) -> tuple[bytes, bytes]:
    _, chromaticities = icc._PRIMARIES[code]
    return b"cHRM", struct.pack(">8I", *(round(x * 100_000) for x in chromaticities))


SAYS_SRGB = b"sRGB", b"\0"


def cicp(first: int, transfer: int) -> tuple[bytes, bytes]:
    return b"cICP", bytes([first, transfer, 0, 1])


# What Chromium shows of greys (10, 40, 100, 128, 200), and of (200, 100, 200), in such a PNG.
COLOURS = [*((grey, grey, grey) for grey in (10, 40, 100, 128, 200)), (200, 100, 200)]
IN_CHROMIUM: list[tuple[list[tuple[bytes, bytes]], list[int], list[int]]] = [
    ([gamma(0.45455)], [10, 40, 100, 128, 200], [200, 100, 200]),
    ([gamma(0.44)], [10, 40, 100, 128, 200], [200, 100, 200]),
    ([gamma(0.47)], [10, 40, 100, 128, 200], [200, 100, 200]),
    ([gamma(0.43)], [2, 31, 95, 124, 199], [199, 95, 199]),
    ([gamma(0.5)], [5, 43, 109, 137, 206], [206, 109, 206]),
    ([gamma(1.0)], [56, 110, 168, 188, 229], [229, 168, 229]),
    ([primaries(12)], [10, 40, 100, 128, 200], [200, 100, 200]),
    ([primaries(12), gamma(0.45455)], [3, 35, 100, 129, 201], [216, 93, 207]),
    ([SAYS_SRGB, gamma(1.0), primaries(12)], [10, 40, 100, 128, 200], [200, 100, 200]),
    ([cicp(12, 13), gamma(1.0)], [10, 40, 100, 128, 200], [215, 93, 205]),
    ([cicp(1, 1)], [1, 28, 91, 121, 197], [197, 91, 197]),
    ([cicp(9, 1)], [1, 28, 91, 121, 197], [234, 60, 204]),
    ([cicp(2, 2)], [10, 40, 100, 128, 200], [200, 100, 200]),
    ([cicp(9, 16)], [0, 9, 76, 132, 255], [255, 0, 255]),
]


@pytest.mark.parametrize(("chunks", "greys", "violet"), IN_CHROMIUM)
def test_a_png_looks_as_chromium_shows_it(
    chunks: list[tuple[bytes, bytes]], greys: list[int], violet: list[int]
) -> None:
    images = [Image.new("RGB", (8, 8), colour) for colour in COLOURS]
    found = [preprocess(with_chunks(image, *chunks), SPEC).crop[9, 9] for image in images]
    assert [int(colour[0]) for colour in found[:5]] == pytest.approx(greys, abs=1)
    assert found[5].tolist() == pytest.approx(violet, abs=1)


@pytest.mark.parametrize(
    "chunk", [gamma(1e-5), gamma(0.0), (b"cHRM", bytes(32)), (b"cHRM", b"\xff" * 32)]
)
def test_what_makes_no_sense_changes_no_pixel(chunk: tuple[bytes, bytes]) -> None:
    photo = preprocess(with_chunks(draw(), chunk), SPEC)
    np.testing.assert_array_equal(photo.crop, shown(draw()).crop)
    if chunk[0] == b"cHRM":
        photo = preprocess(with_chunks(draw(), chunk, gamma(1.0)), SPEC)
        np.testing.assert_array_equal(photo.crop, shown(draw()).crop)


def test_hlg_is_neither_black_nor_burnt_out() -> None:
    ramp: NDArray[np.uint8] = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    data = with_chunks(Image.fromarray(ramp).convert("RGB"), cicp(9, 18))
    row = preprocess(data, SPEC).crop[100, :, 1].astype(int)
    assert (np.diff(row) >= -1).all()
    assert row[10] < 30
    assert row[112] == pytest.approx(99, abs=3)  # as in Chromium
    assert row[-1] > 240


def broken() -> list[tuple[str, bytes]]:
    zeros = bytes(128)
    return [
        ("empty", b"x"),
        ("no profile", b"no profile at all" * 20),
        ("cut in its header", P3[:100]),
        ("cut in its tags", P3[:200]),
        ("without tags", P3[:128] + bytes(4)),
        ("a million tags", P3[:128] + struct.pack(">I", 1_000_000) + P3[132:]),
        ("for inks", P3[:16] + b"CMYK" + P3[20:]),
        ("for another thing", P3[:12] + b"link" + P3[16:]),
        ("of nothing", zeros[:36] + b"acsp" + zeros),
        ("too large", P3 + bytes(colour.MAX_PROFILE_BYTES)),
    ]


@pytest.mark.parametrize(("name", "profile"), broken(), ids=[name for name, _ in broken()])
def test_a_profile_that_is_of_no_use_is_ignored_with_a_warning(name: str, profile: bytes) -> None:
    photo = shown(draw(), "JPEG", icc_profile=profile)
    np.testing.assert_array_equal(photo.crop, shown(draw(), "JPEG").crop)
    (warning,) = photo.warnings
    assert "left out" in warning
    assert photo.icc == ""


def test_no_damage_to_a_profile_costs_the_photo() -> None:
    rng = np.random.default_rng(0)
    for whole in (P3, ADOBE, press((55, -37, -50), (16, 0, 0))):
        mode = "CMYK" if whole[16:20] == b"CMYK" else "RGB"
        for _ in range(30):
            damaged = bytearray(whole)
            for at in rng.integers(0, min(len(whole), 400), 3):
                damaged[at] = rng.integers(256)
            photo = preprocess(encode(draw(16, 16, mode), "JPEG", icc_profile=bytes(damaged)), SPEC)
            assert photo.crop.shape == (224, 224, 3)


def test_the_conversions_that_are_kept_are_few() -> None:
    for i in range(40):
        profile = rgb(f"P {i}", icc.SRGB, 1.5 + i / 50)
        assert shown(draw(16, 16), icc_profile=profile).icc == f"P {i} → sRGB"
    assert len(colour._kept) == colour._KEPT


def test_the_name_of_a_profile_is_one_short_line() -> None:
    profile = rgb("a\n\x1b[31m" + "b" * 500, icc.SRGB, 1.5)
    name = shown(draw(16, 16), icc_profile=profile).icc
    assert name.isprintable()
    assert 10 < len(name) < 80
