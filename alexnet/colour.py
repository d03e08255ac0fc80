"""Colours: what a photo's numbers mean, and the same in sRGB, which the network was trained on.

The profile of a photo (ICC), or what a PNG, HEIC or AVIF states without one, as browsers take it. A
photo without either, or in sRGB, costs nothing: what littleCMS makes of a profile is kept.
"""

import io
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from alexnet import icc

MAX_PROFILE_BYTES = 4 << 20
"""Those of printing presses have up to 2.5 MB."""
_KEPT = 16  # one of four inks takes 1.7 MB
_ALIKE = 2  # levels of 255 from sRGB: rounding
_LINEAR = 12
_MAX_NAME = 60
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@dataclass(frozen=True)
class Colours:
    """What to do with the pixels of a photo."""

    name: str = ""
    """`sRGB`, `Display P3 → sRGB`; empty where the photo does not say."""
    warning: str = ""
    transform: ImageCms.ImageCmsTransform | None = None
    mode: str = ""
    """Of the pixels that it takes."""
    early: bool = False
    """Before the photo is resized: the curve is so far from sRGB's that the mean of some pixels,
    converted, is not the mean of them converted."""

    def of(self, picture: Image.Image) -> Image.Image:
        """RGB or RGBA in sRGB; the picture itself where it is in sRGB."""
        if not self.transform:
            return picture
        alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
        if self.mode == "L":
            shown = picture if picture.mode == "L" else picture.getchannel(0)
        else:
            shown = picture if picture.mode == self.mode else picture.convert(self.mode)
        shown = self.transform.apply(shown)
        if alpha:
            shown.putalpha(alpha)
        return shown


NONE = Colours()
_kept: OrderedDict[bytes, Colours] = OrderedDict()
_lock = Lock()


def colours_of(image: Image.Image, codes: Sequence[int] = ()) -> Colours:
    """Of an opened photo and its code points of H.273, where it has them: these come first, then
    its profile, then a PNG's sRGB chunk, then its gamma and chromaticities."""
    profile: bytes | None = None
    if codes:
        profile = icc.of_codes(codes[0], codes[1])
    elif found := image.info.get("icc_profile"):
        profile = found
    elif "srgb" in image.info:
        return Colours("sRGB")
    elif image.format == "PNG":
        profile = _stated(image.info)
    if not profile:
        if codes:
            return Colours(warning="the colours that it states are not known: shown as sRGB")
        return NONE
    colours = _cached(profile)
    if colours.transform and not _fits(colours.mode, image.mode):
        return Colours(warning="the colour profile is for another kind of picture: left out")
    return colours


def _stated(info: dict[str | tuple[int, int], Any]) -> bytes | None:
    gamma, chromaticities = info.get("gamma"), info.get("chromaticity")
    if gamma is None and chromaticities is None:
        return None
    return icc.of_gamma(gamma, chromaticities)


def _fits(mode: str, of_picture: str) -> bool:
    """A grey picture may have a profile of colours; else they are of one kind, as in browsers."""
    if mode == "L":
        return of_picture in ("1", "L", "LA") or of_picture.startswith("I")
    return (mode == "CMYK") == (of_picture == "CMYK")


def _cached(profile: bytes) -> Colours:
    if len(profile) > MAX_PROFILE_BYTES:
        return Colours(
            warning=f"the colour profile has over {MAX_PROFILE_BYTES >> 20} MB: left out"
        )
    key = blake2b(profile, digest_size=16).digest()
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    made = _made(profile)
    with _lock:
        _kept[key] = made
        if len(_kept) > _KEPT:
            _kept.popitem(last=False)
    return made


def _made(profile: bytes) -> Colours:
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _MODES[opened.profile.xcolor_space.strip()]
        # As browsers do it: white becomes white, and black is not stretched to ours.
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        transform = ImageCms.ImageCmsTransform(opened, _SRGB, mode, "RGB", intent)
        late, worst = _compared(transform, mode)
        name = opened.profile.profile_description or ""
    except Exception:  # littleCMS knows many; none may cost the photo
        return Colours(warning="the colour profile cannot be read: left out")
    if worst <= _ALIKE:
        return Colours("sRGB")
    name = "".join(c for c in name[:_MAX_NAME] if c.isprintable()).strip() or "a colour profile"
    return Colours(f"{name} → sRGB", "", transform, mode, not late)


def _compared(transform: ImageCms.ImageCmsTransform, mode: str) -> tuple[bool, int]:
    """Whether greys stay about where they are, and how far any colour goes."""
    if mode == "CMYK":
        return False, 255
    greys = np.arange(256, dtype=np.uint8)[None]
    values = np.linspace(0, 255, 9).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(values, values, values), -1).reshape(1, -1, 3)
    tried = greys if mode == "L" else np.concatenate([np.repeat(greys[..., None], 3, -1), cube], 1)
    shown = np.asarray(transform.apply(Image.fromarray(tried))).astype(int)
    far = np.abs(shown - (tried[..., None] if mode == "L" else tried)).max(-1)[0]
    return bool(far[:256].max() <= _LINEAR), int(far.max())
