"""Drawn photos for tests: nothing is downloaded or stored; a seed gives the same photo again."""

import colorsys
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from alexnet.formats import FORMATS

DRAWN = [name for name in FORMATS if name != "HEIF"]
"""The formats that can be written here, too."""


def draw(width: int = 320, height: int = 240, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Smooth coloured waves, different in every corner; RGBA fades out to the right."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    waves = [
        np.sin(rng.uniform(2, 9) * x + rng.uniform(2, 9) * y + rng.uniform(0, 6)) for _ in range(3)
    ]
    image = Image.fromarray((127.5 + 127.5 * np.stack(waves, -1)).astype(np.uint8))
    if mode == "RGBA":
        image.putalpha(Image.fromarray((255 * (1 - x / x.max())).astype(np.uint8)))
    return image.convert(mode)


def encode(image: Image.Image, file_format: str, **save_options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **save_options)
    return buffer.getvalue()


def jpeg(
    width: int = 320, height: int = 240, mode: str = "RGB", seed: int = 0, **save_options: Any
) -> bytes:
    return encode(draw(width, height, mode, seed), "JPEG", **save_options)


def png(
    width: int = 320, height: int = 240, mode: str = "RGB", seed: int = 0, **save_options: Any
) -> bytes:
    return encode(draw(width, height, mode, seed), "PNG", **save_options)


def class_folders(
    root: Path, classes: Sequence[str], each: int, side: int = 64, seed: int = 0
) -> None:
    """`root/CLASS/CLASS_0.png` and so on: a hue of its own for each class, under noise."""
    rng = np.random.default_rng(seed)
    for index, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        hue = 255 * np.array(colorsys.hsv_to_rgb(index / len(classes), 0.8, 0.8))
        for i in range(each):
            pixels = hue + rng.normal(0, 25, (side, side, 3))
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(root / name / f"{name}_{i}.png")
