"""Colour profiles for tests, and photos whose numbers are meant by one."""

import io
from struct import pack

from PIL import Image, ImageCms

from alexnet import icc


def rgb(name: str, chromaticities: icc.Chromaticities, gamma: float) -> bytes:
    made = icc.profile(name, chromaticities, icc._parametric((gamma,)))
    assert made
    return made


def of_codes(primaries: int, transfer: int) -> bytes:
    made = icc.of_codes(primaries, transfer)
    assert made
    return made


P3 = of_codes(12, 13)
ADOBE = rgb("Adobe RGB", (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06), 2.199)
LINEAR = rgb("Linear", icc.SRGB, 1.0)
OF_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """ICC.1:2001, in version 2.4."""
    at, table, body = 128 + 4 + 12 * len(tags), pack(">I", len(tags)), b""
    for tag, value in tags.items():
        table += pack(">4sII", tag, at + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = pack(">I4xI4s4s4s12x4s", at + len(body), 0x02400000, kind, space, connection, b"acsp")
    return head.ljust(68, b"\0") + icc._xyz(icc._D50)[8:] + bytes(48) + table + body


def _named(name: str) -> bytes:
    text = name.encode() + b"\0"
    return b"desc" + pack(">II", 0, len(text)) + text + bytes(78)


def grey(name: str, gamma: float) -> bytes:
    tags = {b"desc": _named(name), b"wtpt": icc._xyz(icc._D50), b"kTRC": icc._parametric((gamma,))}
    return _profile(b"mntr", b"GRAY", b"XYZ ", tags)


def press(cyan: tuple[int, int, int], black: tuple[int, int, int]) -> bytes:
    """A profile of CMYK in which all but these two inks look as white paper does; in CIE Lab."""
    grid = b""
    for node in range(16):  # the last channel, black, varies fastest
        light, a, b = black if node & 1 else cyan if node & 8 else (100, 0, 0)
        grid += bytes([round(light * 2.55), a + 128, b + 128])
    ramp, identity = bytes(range(256)), pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    table = b"mft1" + bytes([0, 0, 0, 0, 4, 3, 2, 0]) + identity + ramp * 4 + grid + ramp * 3
    tags = {b"desc": _named("A press"), b"A2B0": table, b"wtpt": icc._xyz(icc._D50)}
    return _profile(b"prtr", b"CMYK", b"Lab ", tags)


GREY_LINEAR = grey("Linear grey", 1.0)


def meant_by(profile: bytes, image: Image.Image) -> Image.Image:
    """The numbers that mean the colours of `image`, which is in sRGB."""
    mode = "L" if profile[16:20] == b"GRAY" else "RGB"
    first, last = (ImageCms.ImageCmsProfile(io.BytesIO(data)) for data in (OF_SRGB, profile))
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    transform = ImageCms.ImageCmsTransform(first, last, "RGB", mode, intent)
    result = transform.apply(image.convert("RGB"))
    result.info.clear()
    return result
