"""The numbers that every package must agree on, each written once."""

from dataclasses import dataclass, replace
from typing import Literal

INPUT_NAME = "images"
OUTPUT_NAME = "logits"

# Pixels enter the network as (p - 128) / 64 in all three channels. One scale and one zero point
# for all channels is what lets an int8 graph start from the uint8 pixels with no arithmetic at
# all (docs/adr/0004-pixels-in-logits-out.md). Weights trained with other constants are folded.
PIXEL_ZERO = 128
PIXEL_SCALE = 64

Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class Preprocess:
    """How a photo becomes the square the network sees: shorter side to `resize`, central `crop`.

    The defaults are AlexNet's (Krizhevsky et al. 2012, section 2, with a 224 px view).
    """

    resize: int = 256
    crop: int = 224
    interpolation: Interpolation = "bilinear"
    tile: int | None = None
    """Side in px of the small JPEG that a larger photo is made first, where the network was trained
    on such tiles: it takes finer detail for something else, and has learnt their artefacts too
    (docs/adr/0009-photos-become-tiles.md)."""

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.resize:
            raise ValueError(f"crop {self.crop} must lie between 1 and resize {self.resize}")
        if self.interpolation not in ("bilinear", "bicubic"):
            raise ValueError(f"unknown interpolation {self.interpolation!r}")
        if self.tile is not None and self.tile < 1:
            raise ValueError(f"tile {self.tile} must be at least 1 px")

    def at(self, crop: int) -> "Preprocess":
        """The same view of a photo, drawn at another resolution."""
        return replace(self, resize=round(self.resize * crop / self.crop), crop=crop)


def batch_sizes(largest: int) -> list[int]:
    """What is warmed, measured, and built for: the powers of two below `largest`, and itself."""
    return [*(1 << i for i in range((largest - 1).bit_length())), largest]


# On a CPU without VNNI (AVX2) ONNX Runtime adds pairs of products in 16 bits: they saturate, and
# the probabilities of an int8 graph are off by up to 0.19. This keeps the weights in uint8 there.
# https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
ORT_EXACT_INT8 = ("session.x64quantprecision", "1")
