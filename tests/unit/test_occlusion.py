"""Hiding a part of a crop shows what the answer depends on."""

import numpy as np
import pytest

from alexnet.occlusion import GRID, drops, hidden, overlay, shares
from tests.photos import draw


@pytest.mark.parametrize("side", [32, 63, 224])
def test_each_place_is_hidden_once_and_all_are(side: int) -> None:
    crop = np.asarray(draw(side, side))
    same, *others = hidden(crop)
    assert same is crop
    changed = np.array([(other != crop).any(-1) for other in others])
    assert len(changed) == GRID**2
    assert changed.any((1, 2)).all()
    assert changed.any(0).mean() > 0.99  # but for pixels of the very mean colour


def test_the_place_that_matters_has_the_largest_share() -> None:
    crop = np.zeros((70, 70, 3), np.uint8)
    crop[20:30, 50:60] = 255  # row 2, column 5

    def chance(pixels: np.ndarray) -> float:
        return float(pixels[20:30, 50:60].mean() / 255)

    before, *after = map(chance, hidden(crop))
    grid = drops(before, after)
    assert int(grid.argmax()) == 2 * GRID + 5
    assert shares(grid).max() == 1
    assert shares(grid)[6, 0] == 0


def test_what_rises_when_something_is_hidden_is_no_evidence() -> None:
    grid = drops(0.2, [0.5] * GRID**2)
    assert not grid.any()
    assert not shares(grid).any()


def test_the_heatmap_leaves_the_evidence_as_it_is_and_darkens_the_rest() -> None:
    crop = np.asarray(draw(224, 224))
    grid = np.zeros((GRID, GRID), np.float32)
    grid[0, 0] = 1
    shown = overlay(crop, grid)
    assert shown.shape == crop.shape
    assert shown.dtype == np.uint8
    np.testing.assert_allclose(shown[:4, :4], crop[:4, :4], atol=30)
    assert shown[150:, 150:].mean() < 0.5 * crop[150:, 150:].mean()
