"""Probabilities with torchvision's geometry against torchvision's own two steps, on real photos."""

import io
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from alexnet.bundle import Bundle
from alexnet.postprocess import softmax
from alexnet.preprocess import preprocess
from export.parity import predictor
from gpu.typed import float_graph
from tests.paths import ROOT, STARTER
from tests.torchvision_crop import resize_and_crop
from training.evaluate import infer_all

PHOTOS = ROOT.parent / "shared" / "photos"


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the shared photos are not on this machine")
def test_photos_get_torchvisions_probabilities() -> None:
    """How far probabilities are off depends on how sure the network is, so the measure is how far
    the exact centre would be off: thirteen times as far for photos that are decoded at full size,
    seven times for those that are large enough to be decoded at half size."""
    bundle = Bundle.open(STARTER)
    artifact = bundle.files[bundle.manifest.artifacts[0].file]
    predict = predictor(float_graph(artifact).SerializeToString())
    spec = replace(bundle.manifest.preprocess, geometry="torchvision")
    photos = [path.read_bytes() for path in sorted(PHOTOS.glob("*.JPEG"))]
    # torchvision takes the numbers of any colour space as they are.
    photos = [
        photo for photo in photos if "\N{RIGHTWARDS ARROW}" not in preprocess(photo, spec).icc
    ]
    assert len(photos) > 100

    def probabilities(crops: list[NDArray[np.uint8]]) -> NDArray[np.floating]:
        return softmax(infer_all(predict, np.stack(crops), 20))

    ours = probabilities([preprocess(photo, spec).crop for photo in photos])
    centre = replace(spec, geometry="centre")
    centred = probabilities([preprocess(photo, centre).crop for photo in photos])
    images = [Image.open(io.BytesIO(photo)).convert("RGB") for photo in photos]
    theirs = probabilities([resize_and_crop(image, spec.resize, spec.crop) for image in images])
    large = np.array([min(image.size) >= 2 * spec.resize for image in images])
    for size in large, ~large:
        difference, other = (np.abs(p - theirs).max(1)[size].mean() for p in (ours, centred))
        assert difference < other / 5
    second, first = np.sort(theirs, axis=1)[:, -2:].T
    clear = first - second > 0.05
    assert clear.sum() > 60
    assert (ours.argmax(1) == theirs.argmax(1))[clear].all()
