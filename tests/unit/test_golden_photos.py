"""Golden photos: the pixels of every kind of photo are those that were recorded."""

import time
import zipfile

import numpy as np
import pytest

from alexnet import golden_photos, preprocess
from alexnet.decoders import missing
from alexnet.formats import FORMATS, format_of
from alexnet.modes import opaque


def test_every_accepted_format_has_a_golden_photo() -> None:
    with zipfile.ZipFile(golden_photos.RECORD) as record:
        photos = [record.read(name) for name in record.namelist() if name.endswith(".photo")]
    assert {form.name for data in photos if (form := format_of(data))} == FORMATS.keys()


def test_the_pixels_are_those_that_were_recorded() -> None:
    golden_photos.check()
    differences = golden_photos.differences()
    assert len(differences) >= len([name for name in FORMATS if not missing(name)])
    if golden_photos.versions() == golden_photos._recorded_versions():
        assert set(differences.values()) == {0.0}  # to the bit: the decoders are those we pin


def test_a_decoder_that_reads_other_pixels_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        preprocess, "opaque", lambda picture: opaque(picture).point(lambda v: min(v + 3, 255))
    )
    with pytest.raises(golden_photos.PixelsChanged, match=r"levels of 255.*Install the latter"):
        golden_photos.check()


def test_the_comparison_costs_little() -> None:
    golden_photos.check()
    times = []
    for _ in range(3):
        start = time.process_time()
        golden_photos.check()
        times.append(time.process_time() - start)
    assert np.min(times) < 0.2  # 15 ms
