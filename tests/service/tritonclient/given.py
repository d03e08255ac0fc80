"""What the checks are given: a server, photos, and what /v1/classify says of them."""

# mypy: disable-error-code="import-not-found"

import os
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http

HTTP, GRPC = os.environ["OIP_HTTP"], os.environ["OIP_GRPC"]
FOLDER = Path(os.environ["OIP_DATA"])

PHOTOS = [path.read_bytes() for path in sorted(FOLDER.glob("photo_*"))]
CROPS = np.load(FOLDER / "crops.npy")
"""(photos, crop, crop, 3) uint8: the photos as the network sees them."""
PROBABILITIES = np.load(FOLDER / "probabilities.npy")
"""(photos, classes), rounded to six digits."""
LABELS = (FOLDER / "labels.txt").read_text().splitlines()

CLIENTS = {"grpc": (tritonclient.grpc, GRPC), "http": (tritonclient.http, HTTP)}


def photos(module: Any, images: list[bytes] = PHOTOS, column: bool = False) -> Any:
    data = np.array(images, object)
    if column:
        data = data[:, np.newaxis]
    tensor = module.InferInput("image", list(data.shape), "BYTES")
    return tensor.set_data_from_numpy(data)


def pixels(module: Any, crops: Any = CROPS) -> Any:
    return module.InferInput("pixels", list(crops.shape), "UINT8").set_data_from_numpy(crops)


def check(result: Any, first: int = 0, count: int = len(PHOTOS)) -> None:
    """The answer is what /v1/classify says of so many photos from the first."""
    found = result.as_numpy("probabilities")
    expected = PROBABILITIES[first : first + count]
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-6)
