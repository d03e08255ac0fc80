"""ONNX Runtime on the CPU, opened from memory."""

import os
from pathlib import Path

import numpy as np
import pytest

from alexnet.bundle import Bundle
from server.engines.ort import OrtEngine


@pytest.fixture(scope="module")
def bundle(starter: str) -> Bundle:
    return Bundle.open(Path(starter))


def engine_of(bundle: Bundle) -> OrtEngine:
    (artifact,) = bundle.manifest.artifacts
    return OrtEngine(bundle.files[artifact.file], bundle.manifest, threads=1)


def test_the_file_in_memory_is_closed_once_the_model_is_open(bundle: Bundle) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    engine = engine_of(bundle)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert engine.run(bundle.golden.crops[:1]).shape == (1, 1000)


def test_without_files_in_memory_the_model_is_opened_from_bytes(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    crops = bundle.golden.crops[:2]
    expected = engine_of(bundle).run(crops)
    monkeypatch.delattr(os, "memfd_create")
    np.testing.assert_array_equal(engine_of(bundle).run(crops), expected)


def test_crops_one_by_one_are_gathered_into_the_same_batch(bundle: Bundle) -> None:
    crops = bundle.golden.crops[:3]
    engine = engine_of(bundle)
    np.testing.assert_array_equal(engine.begin(list(crops))(), engine.run(crops))
