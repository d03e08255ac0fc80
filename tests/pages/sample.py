"""The sample photo of the page, drawn by numbers: a jellyfish, which the shipped model knows.

`python -m tests.pages.sample` writes it.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from tests.paths import ROOT

SAMPLE = ROOT / "server" / "api" / "web" / "static" / "sample.jpg"
WIDTH, HEIGHT = 480, 360
SCALE = 3
"""Drawn larger, and made smaller: edges become smooth."""
BELL = 0.0, -0.13, 0.25
"""Centre and radius, in heights; the middle of the picture is 0, 0."""

Plane = NDArray[np.float64]


def draw() -> Image.Image:
    rng = np.random.default_rng(7)
    height, width = HEIGHT * SCALE, WIDTH * SCALE
    y, x = (np.mgrid[0:height, 0:width] + 0.5) / height
    y, x = y - 0.5, x - width / height / 2
    sea = np.array((8, 40, 110)) * (1.1 - 0.9 * (y + 0.5))[..., None]
    light = np.exp(-((x + 0.25 - 0.3 * y) ** 2) / 0.05 - (y + 0.6) ** 2 / 0.3)
    picture = sea + light[..., None] * (30, 60, 70)
    picture = _bell(_tentacles(picture, x, y, rng), x, y)
    picture += rng.normal(0, 2.5, (height, width, 1))
    image = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(1.5))
    return image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def _tentacles(picture: Plane, x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    left, top, radius = BELL
    down = y - top
    below = down > 0
    for _ in range(34):
        start, phase = rng.uniform(-0.85, 0.85) * radius, rng.uniform(0, 2 * np.pi)
        turns, swing, length = rng.uniform(8, 24), rng.uniform(0.016, 0.07), rng.uniform(0.33, 0.58)
        at = left + start * (1 + 0.35 * down) + swing * np.sin(turns * down + phase) * down
        seen = np.exp(-(((x - at) / 0.0035) ** 2)) * below * (1 - down / length).clip(0)
        picture = picture + seen[..., None] * (188, 120, 88)
    for i in range(5):  # the arms of the mouth
        phase = rng.uniform(0, 2 * np.pi)
        at = left + 0.04 * (i - 2) + 0.03 * np.sin(9 * down + phase)
        wide = 0.02 * (1 + 0.6 * np.sin(40 * down + phase)) * (1 - down / 0.4).clip(0) + 1e-4
        seen = (np.exp(-(((x - at) / wide) ** 2)) * below)[..., None]
        picture = picture * (1 - 0.55 * seen) + seen * (178, 133, 105)
    return picture


def _bell(picture: Plane, x: Plane, y: Plane) -> Plane:
    left, top, radius = BELL
    u, v = (x - left) / radius, (y - top) / (0.85 * radius)
    skirt = np.maximum(np.abs(u) - 1 + 0.6 * v**2, v - 0.25 - 0.05 * np.cos(22 * u))
    off = np.where(v < 0, np.sqrt(u**2 + v**2) - 1, skirt)
    inside = 0.9 * (0.5 - off / 0.06).clip(0, 1)[..., None]
    ribs = 0.5 + 0.5 * np.cos(34 * np.arctan2(u, 0.5 - v))
    round_ = np.sqrt((1 - u**2 - v**2).clip(0))
    body = np.array((230, 120, 80)) * (0.45 + 0.3 * round_ + 0.12 * ribs)[..., None]
    body = body + np.exp(-((off / 0.09) ** 2))[..., None] * (90, 90, 80)
    body += 70 * np.exp(-((u + 0.35) ** 2 + (v + 0.5) ** 2) / 0.05)[..., None]
    drawn: Plane = picture * (1 - inside) + body * inside
    return drawn


if __name__ == "__main__":
    buffer = io.BytesIO()
    draw().save(buffer, "JPEG", quality=85)
    SAMPLE.write_bytes(buffer.getvalue())
