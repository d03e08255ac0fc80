"""The photos that were once shown wrongly, and those that once stopped the server, where they lie
beside the repository: README.tsv says what is right. Drawn ones of these kinds are in test_damaged,
test_rare_pixels, test_priced, test_colour and test_hostile."""

import csv
import gzip
import time

import numpy as np
import pytest

from alexnet.preprocess import InvalidImage, preprocess
from alexnet.spec import Preprocess
from tests.paths import ROOT

FAULTS = ROOT.parent / "shared" / "faults" / "photos"
SPEC = Preprocess()
MOST = 3.0
TOLERANCES = {"bmp_4444.bmp": 5.0, "icc_linear.jpg": 3.1}
"""The expected picture is the scene: four bits a channel, and JPEG of linear light in the dark, are
so far from it by whatever program."""
HOSTILE = FAULTS.parent / "hostile"
ANSWERS = {
    "arith_refine.jpg": "arithmetic coding",
    "canvas.webp": "",  # a picture: white, 7,071 x 7,071
    "exif_quadratic.jpg.gz": "has no size",
    "huff_prog.jpg": "too many scans",
    "itxt_bombs.png": "",
    "rle_eol.bmp": "65,535",
    "tall.bmp": "65,535",
}
"""What each hostile photo is refused for. newlines.form.gz is in service/test_bodies.py."""
REFUSED = {"bomb_scans_7000_90.jpg": "scans", "jpg_12bit.jpg": "12", "png_thin_1x25M.png": "a side"}


def rows() -> list[dict[str, str]]:
    if not FAULTS.is_dir():
        return []
    with (FAULTS / "README.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.mark.skipif(not FAULTS.is_dir(), reason="the photos are not on this machine")
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("name", [row["file"] for row in rows()])
def test_a_photo_is_what_a_browser_shows(name: str) -> None:
    data = (FAULTS / name).read_bytes()
    if name.endswith(".gz"):
        data = gzip.decompress(data)
    if name in REFUSED:
        with pytest.raises(InvalidImage, match=REFUSED[name]):
            preprocess(data, SPEC)
        return
    crop = preprocess(data, SPEC).crop.astype(int)
    right = FAULTS / "expected" / f"{name.removesuffix('.gz')}.png"
    if right.exists():
        difference = np.abs(crop - preprocess(right.read_bytes(), SPEC).crop).mean()
        assert difference < TOLERANCES.get(name, MOST)
        return
    means = next(row["right"] for row in rows() if row["file"] == name)
    if "crop mean" in means:
        expected = [float(word.strip("[],")) for word in means.split("mean")[1].split()[:3]]
        np.testing.assert_allclose(crop.mean((0, 1)), expected, atol=MOST)


@pytest.mark.skipif(not HOSTILE.is_dir(), reason="the hostile photos are not on this machine")
@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_a_hostile_photo_is_answered_within_two_seconds_of_the_processor(name: str) -> None:
    data = (HOSTILE / name).read_bytes()
    if name.endswith(".gz"):
        data = gzip.decompress(data)
    began = time.thread_time()
    if reason := ANSWERS[name]:
        with pytest.raises(InvalidImage, match=reason):
            preprocess(data, SPEC)
    else:
        preprocess(data, SPEC)
    assert time.thread_time() - began < 2.0
