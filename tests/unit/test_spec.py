from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from alexnet.spec import Preprocess


def test_the_defaults_are_those_of_the_paper() -> None:
    assert Preprocess() == Preprocess(
        resize=256, crop=224, interpolation="bilinear", geometry="centre"
    )


@pytest.mark.parametrize(
    ("crop", "expected"), [(224, (256, 224)), (112, (128, 112)), (64, (73, 64)), (448, (512, 448))]
)
def test_another_resolution_keeps_the_view(crop: int, expected: tuple[int, int]) -> None:
    view = Preprocess(interpolation="bicubic").at(crop)
    assert (view.resize, view.crop) == expected
    assert view.interpolation == "bicubic"


def test_a_crop_of_the_whole_photo_is_allowed() -> None:
    assert Preprocess(64, 64).at(32) == Preprocess(32, 32)


@pytest.mark.parametrize(("resize", "crop"), [(224, 225), (256, 0), (256, -1), (0, 0)])
def test_a_crop_outside_the_photo_is_refused(resize: int, crop: int) -> None:
    with pytest.raises(ValueError, match=f"crop {crop} must lie between 1 and resize {resize}"):
        Preprocess(resize, crop)


def test_an_unknown_interpolation_is_refused_by_name() -> None:
    nearest: Any = "nearest"
    with pytest.raises(ValueError, match="'nearest'"):
        Preprocess(interpolation=nearest)


def test_an_unknown_geometry_is_refused_by_name() -> None:
    caffe: Any = "caffe"
    with pytest.raises(ValueError, match="'caffe'"):
        Preprocess(geometry=caffe)


def test_the_settings_name_a_geometry_only_if_it_is_not_the_usual() -> None:
    """They are part of the key under which photos were packed before there were geometries, and
    while there were tiles."""
    usual = {"resize": 256, "crop": 224, "interpolation": "bilinear", "tile": None}
    assert Preprocess().settings() == usual
    assert Preprocess(geometry="warp").settings() == {**usual, "geometry": "warp"}
    assert str(Preprocess(64, 64).settings()) == (
        "{'resize': 64, 'crop': 64, 'interpolation': 'bilinear', 'tile': None}"
    )


def test_a_view_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Preprocess().crop = 1  # type: ignore[misc]


def test_another_resolution_keeps_the_geometry() -> None:
    assert Preprocess(geometry="torchvision").at(112).geometry == "torchvision"
