"""Colours: what browsers show of a profile, and of what a PNG states without one."""

import struct
import time
import zlib
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from alexnet import colour, icc
from alexnet.preprocess import Photo, preprocess
from alexnet.spec import Preprocess
from tests.photos import draw, encode

SPEC = Preprocess()
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
P3, LINEAR_2020 = icc.of_codes(12, 13), icc.of_codes(9, 8)
TO_XYZ = {  # of D65: W3C, CSS Color 4
    "sRGB": [
        [0.412391, 0.357584, 0.180481],
        [0.212639, 0.715169, 0.072192],
        [0.019331, 0.119195, 0.950532],
    ],
    "P3": [
        [0.486571, 0.265668, 0.198217],
        [0.228975, 0.691739, 0.079287],
        [0.0, 0.045113, 1.043944],
    ],
}


def light(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def signal(values: NDArray[np.float64]) -> NDArray[np.float64]:
    values = values.clip(0, 1)
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)


def scene() -> tuple[Image.Image, Image.Image]:
    """In sRGB, and the same in Display P3."""
    shown = draw()
    to_p3 = np.linalg.inv(TO_XYZ["P3"]) @ np.array(TO_XYZ["sRGB"])
    values = signal(light(np.asarray(shown) / 255) @ to_p3.T)
    return shown, Image.fromarray(np.rint(255 * values).astype(np.uint8))


def apart(a: Photo, b: Photo) -> float:
    return float(np.abs(a.crop.astype(int) - b.crop).mean())


def plain(image: Image.Image) -> Photo:
    return preprocess(encode(image, "PNG"), SPEC)


def with_chunk(image: Image.Image, kind: bytes, content: bytes) -> bytes:
    data, chunk = encode(image, "PNG"), struct.pack(">I", len(content)) + kind + content
    return data[:33] + chunk + struct.pack(">I", zlib.crc32(kind + content)) + data[33:]


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_photo_in_display_p3_is_seen_as_in_a_browser(file_format: str) -> None:
    shown, stored = scene()
    found = preprocess(encode(stored, file_format, icc_profile=P3), SPEC)
    assert found.icc == "Display P3 → sRGB"
    assert apart(found, plain(shown)) < 3 < 4 < apart(plain(stored), plain(shown))


def test_a_profile_in_a_transparent_photo_leaves_its_alpha() -> None:
    shown, stored = (image.convert("RGBA") for image in scene())
    for image in (shown, stored):
        image.putalpha(draw(mode="L", seed=3))
    found = preprocess(encode(stored, "PNG", icc_profile=P3), SPEC)
    assert apart(found, plain(shown)) < 1


def test_srgb_by_whatever_profile_changes_no_pixel() -> None:
    found = preprocess(encode(draw(), "PNG", icc_profile=SRGB), SPEC)
    assert found.icc == "sRGB"
    assert np.array_equal(found.crop, plain(draw()).crop)
    assert plain(draw()).icc == ""


def test_the_mean_of_linear_stripes_is_that_of_their_light() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (512, 256))
    image = Image.fromarray(np.repeat(stripes[..., None], 3, -1))
    found = preprocess(encode(image, "PNG", icc_profile=LINEAR_2020), Preprocess(64, 64))
    assert abs(int(found.crop.mean()) - 127) <= 2  # black and white stay; a browser resizes later


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_a_grey_profile_is_for_grey_pictures(mode: str) -> None:
    grey = grey_profile(1.0)
    image = draw(mode=mode)
    found = preprocess(encode(image, "PNG", icc_profile=grey), SPEC)
    shown = image.convert("LA")
    alpha = shown.getchannel("A")
    values = 255 * signal(np.asarray(shown.getchannel("L")) / 255)
    expected = Image.merge("LA", [Image.fromarray(np.rint(values).astype(np.uint8)), alpha])
    assert "→ sRGB" in found.icc
    assert apart(found, plain(expected)) < 1
    other = preprocess(encode(draw(), "PNG", icc_profile=grey), SPEC)
    assert (other.icc, len(other.warnings)) == ("", 1)
    assert np.array_equal(other.crop, plain(draw()).crop)


def grey_profile(gamma: float) -> bytes:
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256)) + b"\0\0"
    white = b"XYZ " + struct.pack(">I3i", 0, 63190, 65536, 54061)
    tags = [(b"wtpt", white), (b"kTRC", curve)]
    at = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for kind, content in tags:
        table += kind + struct.pack(">II", at + len(body), len(content))
        body += content
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"", 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    return (head.ljust(36, b"\0") + b"acsp").ljust(128, b"\0") + table + body


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.6])
def test_a_png_of_another_gamma_is_seen_as_in_a_browser(gamma: float) -> None:
    content = struct.pack(">I", round(100_000 / gamma))
    found = preprocess(with_chunk(draw(), b"gAMA", content), SPEC)
    values = 255 * signal((np.asarray(draw()) / 255) ** gamma)
    assert found.icc == f"gamma {gamma:.2f} → sRGB"
    assert apart(found, plain(Image.fromarray(np.rint(values).astype(np.uint8)))) < 1


def test_the_chunks_of_a_png_have_an_order() -> None:
    shown, stored = scene()
    codes = with_chunk(stored, b"cICP", bytes((12, 13, 0, 1)))
    assert apart(preprocess(codes, SPEC), plain(shown)) < 1
    primaries = with_chunk(stored, b"cHRM", struct.pack(">8I", *P3_CHROMATICITIES))
    assert apart(preprocess(primaries, SPEC), plain(stored)) == 0  # they count beside a gamma
    dark = struct.pack(">I", 100_000)
    data = with_chunk(stored, b"gAMA", dark)
    data = data[:33] + with_chunk(stored, b"sRGB", b"\0")[33:46] + data[33:]
    assert preprocess(data, SPEC).icc == "sRGB"


P3_CHROMATICITIES = (31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (b"gAMA", bytes(4)),
        (b"gAMA", b"\xff" * 4),
        (b"cHRM", bytes(32)),
        (b"cHRM", b"\xff" * 32),
        (b"cICP", bytes((77, 13, 0, 1))),
        (b"cICP", bytes((1, 2, 0, 1))),
    ],
)
def test_colours_that_are_none_cost_no_photo(kind: bytes, content: bytes) -> None:
    found = preprocess(with_chunk(draw(), kind, content), SPEC)
    assert np.array_equal(found.crop, plain(draw()).crop)


def test_a_broken_profile_is_left_out_with_a_warning() -> None:
    assert P3
    rng = np.random.default_rng(0)
    start = time.process_time()
    for i in range(300):
        damaged = bytearray(P3 if i % 2 else SRGB)
        for at in rng.integers(0, len(damaged), rng.integers(1, 30)):
            damaged[at] = rng.integers(256)
        colour.colours_of(opened(bytes(damaged[: rng.integers(1, len(damaged))])))
    assert (time.process_time() - start) / 300 < 0.1
    for profile in (b"x", bytes(500), P3[:200], bytes(colour.MAX_PROFILE_BYTES + 1)):
        found = colour.colours_of(opened(profile))
        assert "left out" in found.warning
        assert found.of(draw()) == draw()
    data = encode(draw(), "WEBP", icc_profile=bytes(500), lossless=True)
    assert preprocess(data, SPEC).warnings == ("the colour profile cannot be read: left out",)


def opened(profile: bytes) -> Image.Image:
    image = draw(9, 9)
    image.info["icc_profile"] = profile
    return image


def test_what_is_kept_of_profiles_is_bounded_and_not_made_again() -> None:
    profiles = [grey_profile(1 + i / 50) for i in range(40)]
    grey = draw(9, 9, "L")
    for profile in profiles:
        grey.info["icc_profile"] = profile
        assert colour.colours_of(grey) is colour.colours_of(grey)
    assert len(colour._kept) <= 16


def test_a_page_of_white_is_white_however_bright_the_picture_may_be() -> None:
    for transfer in (16, 18):
        profile = icc.of_codes(9, transfer)
        assert profile
        ramp = Image.fromarray(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, -1))
        ramp.info["icc_profile"] = profile
        shown = np.asarray(colour.colours_of(ramp).of(ramp))[0, :, 1].tolist()
        assert all(a <= b for a, b in pairwise(shown))
        assert (shown[0], shown[-1]) == (0, 255)
