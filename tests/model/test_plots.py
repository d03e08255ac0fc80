from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from training.plots import (
    filter_grid,
    plot_confusion,
    plot_curves,
    plot_filters,
    plot_learning_rates,
)
from training.recipe import RECIPES


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def ink_share(path: Path) -> float:
    """The share of pixels that are not white."""
    return float((picture(path) < 250).any(2).mean())


@pytest.mark.parametrize("epochs", [1, 11, 90])
def test_curves_are_a_wide_picture(tmp_path: Path, epochs: int) -> None:
    rows = [
        {"epoch": i, "loss": 5 / i, "top1": 0.5 - 0.5 / i, "top5": 0.7 - 0.6 / i}
        for i in range(1, epochs + 1)
    ]
    path = tmp_path / "deep" / "curves.png"
    plot_curves(rows, "alexnet, recipe test", path)
    height, width, _ = picture(path).shape
    assert 300 < height < 600 < width < 1500
    assert 0.01 < ink_share(path) < 0.2


def test_curves_with_a_validation_loss_have_more_ink(tmp_path: Path) -> None:
    rows = [{"epoch": i, "loss": 5 / i, "top1": 0.5, "top5": 0.6} for i in range(1, 6)]
    plot_curves(rows, "a", tmp_path / "old.png")
    plot_curves([{**r, "val_loss": 6 / r["epoch"]} for r in rows], "a", tmp_path / "new.png")
    assert ink_share(tmp_path / "new.png") > ink_share(tmp_path / "old.png")


@pytest.mark.parametrize(
    ("classes", "names"), [(5, ["top-1: 50.0 %"]), (6, ["top-5: 60.0 %", "top-1: 50.0 %"])]
)
def test_five_guesses_among_five_classes_are_not_drawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, classes: int, names: list[str]
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("training.plots._save", lambda figure, path: drawn.append(figure))
    rows = [{"epoch": 1, "loss": 5.0, "top1": 0.5, "top5": 0.6}]
    plot_curves(rows, "a", tmp_path / "curves.png", classes)
    ((_, accuracy),) = [figure.axes for figure in drawn]
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == names


@pytest.mark.parametrize("count", [2, 5, 25, 60])
def test_a_confusion_is_a_picture_of_a_size_to_look_at(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    confusion = rng.integers(0, 5, (count, count)) + 20 * np.eye(count, dtype=np.int64)
    confusion[0] = 0  # a class without photos
    names = [f"class {i} with a very long name indeed" for i in range(count)]
    plot_confusion(confusion, names, tmp_path / "deep" / "confusion.png")
    height, width, _ = picture(tmp_path / "deep" / "confusion.png").shape
    assert 300 < height < width < 1400


@pytest.mark.parametrize("name", RECIPES)
def test_the_rates_of_every_recipe_can_be_drawn(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rates.png"
    plot_learning_rates(RECIPES[name], path)
    height, width, _ = picture(path).shape
    assert 300 < height < 600 < width < 1500
    assert 0.01 < ink_share(path) < 0.2


def test_filters_lie_16_in_a_row_with_white_between_them() -> None:
    grid = filter_grid(torch.randn(96, 3, 11, 11))
    assert grid.shape == (6 * 12 + 1, 16 * 12 + 1, 3)
    assert grid.dtype == np.uint8
    assert (grid[::12] == 255).all()
    assert (grid[:, ::12] == 255).all()


def test_each_filter_is_stretched_from_black_to_white_over_its_three_colours() -> None:
    weight = torch.linspace(-3, 5, 17 * 3 * 2 * 2).reshape(17, 3, 2, 2)
    weight[0] = torch.arange(12.0).reshape(3, 2, 2) / 1000
    grid = filter_grid(weight)
    expected = np.round(255 * np.arange(12) / 11).reshape(3, 2, 2).transpose(1, 2, 0)
    np.testing.assert_array_equal(grid[1:3, 1:3], expected)
    np.testing.assert_array_equal(grid[1:3, 4:6], expected)  # another scale, the same pattern
    np.testing.assert_array_equal(grid[4:6, 1:3], expected)  # the 17th begins the second row
    assert (grid[4:6, 4:] == 255).all()


def test_a_filter_of_one_value_is_drawn_without_a_division_by_zero() -> None:
    weight = torch.full((2, 3, 4, 4), 0.7)
    grid = filter_grid(weight.bfloat16().requires_grad_())
    assert len(np.unique(grid[1:5, 1:5])) == 1


def test_the_picture_of_the_filters_is_enlarged_four_times(tmp_path: Path) -> None:
    weight = torch.randn(64, 3, 11, 11, generator=torch.Generator().manual_seed(0))
    plot_filters(weight, tmp_path / "deep" / "filters.png")
    pixels = picture(tmp_path / "deep" / "filters.png")
    assert pixels.shape == (4 * 49, 4 * 193, 3)
    np.testing.assert_array_equal(pixels[::4, ::4], filter_grid(weight))
    np.testing.assert_array_equal(pixels[3::4, 3::4], filter_grid(weight))
