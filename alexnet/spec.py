"""The numbers that every package must agree on, each written once."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

INPUT_NAME = "images"
OUTPUT_NAME = "logits"

# Pixels enter the network as (p - 128) / 64 in all three channels. One scale and one zero point
# for all channels is what lets an int8 graph start from the uint8 pixels with no arithmetic at
# all (docs/adr/0004-pixels-in-logits-out.md). Weights trained with other constants are folded.
PIXEL_ZERO = 128
PIXEL_SCALE = 64

MOST_SIDE = 8192
"""In px, of what a photo is resized to: a bundle may not ask for any amount of memory."""

Interpolation = Literal["bilinear", "bicubic"]
Geometry = Literal["centre", "torchvision", "warp"]

LATER = {"later": True}
"""Metadata of a field that bundles written before it lack, and that is left out at its default."""


@dataclass(frozen=True)
class Preprocess:
    """How a photo becomes the square the network sees: shorter side to `resize`, central `crop`.

    The defaults are AlexNet's (Krizhevsky et al. 2012, section 2, with a 224 px view).
    """

    resize: int = 256
    crop: int = 224
    interpolation: Interpolation = "bilinear"
    geometry: Geometry = field(default="centre", metadata=LATER)
    """`centre` is exact; `torchvision` rounds the longer side and the corner of the crop to whole
    pixels of the scaled photo; `warp` makes the photo a square of `resize` px whatever its shape,
    as Caffe's tools do (alexnet/geometry.py)."""

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.resize <= MOST_SIDE:
            raise ValueError(
                f"crop {self.crop} must lie between 1 and resize {self.resize}, which is at most "
                f"{MOST_SIDE:,} px"
            )
        if self.interpolation not in ("bilinear", "bicubic"):
            raise ValueError(f"unknown interpolation {self.interpolation!r}")
        if self.geometry not in get_args(Geometry):
            raise ValueError(f"unknown geometry {self.geometry!r}")

    def at(self, crop: int) -> "Preprocess":
        """The same view of a photo, drawn at another resolution."""
        return replace(self, resize=round(self.resize * crop / self.crop), crop=crop)

    def settings(self) -> dict[str, Any]:
        """The fields by name, with the tile that version 0.1.0 asks for, and without the usual
        geometry: manifests stay readable for older servers, and packed photos keep their place in
        the cache."""
        usual = {"resize": self.resize, "crop": self.crop, "interpolation": self.interpolation}
        values = {**usual, "tile": None}
        return values if self.geometry == "centre" else {**values, "geometry": self.geometry}


PRECISIONS = ("int8", "fp32", "fp16", "bf16", "fp8")
"""Of the arithmetic: what a server can be asked for."""


def batch_sizes(largest: int) -> list[int]:
    """What is warmed, measured, and built for: the powers of two below `largest`, and itself."""
    return [*(1 << i for i in range((largest - 1).bit_length())), largest]
