from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from alexnet.labels import Label, Labels
from training.data import Dataset
from training.pixels import IMAGENET, Pixels, measure
from training.ranks import Ranks
from training.recipe import DEXP, MODERN, ORIGINAL, PAPER

CPU = Ranks(torch.device("cpu"))
TWO = Labels((Label("leaf", "leaf"), Label("sky", "sky")))


def photos(labels: Labels = TWO, count: int = 150, side: int = 16) -> Dataset:
    """Photos whose channels are correlated, brighter to the right; more than one block of them."""
    random = np.random.default_rng(0)
    grey = random.normal(110, 40, (count, side, side, 1)) + np.linspace(-30, 30, side)[:, None]
    colour = random.normal(0, 15, (count, side, side, 3)) * (1.0, 0.5, 2.0)
    images = (grey + colour).clip(0, 255).astype(np.uint8)
    return Dataset(images, random.integers(0, 2, count), labels)


@pytest.mark.parametrize("recipe", [ORIGINAL, PAPER, DEXP])
def test_the_mean_image_is_the_mean_of_the_photos_at_each_place(recipe: Any) -> None:
    data = photos()
    image = measure(recipe, data, CPU).image
    assert image is not None
    assert image.dtype == torch.float32
    np.testing.assert_array_equal(image, data.images.mean(0, dtype=np.float64).astype(np.float32))


def test_the_components_are_those_of_the_photos_pixels() -> None:
    data = photos()
    found = measure(ORIGINAL, data, CPU)
    covariance = np.cov(data.images.reshape(-1, 3).T.astype(np.float64), bias=True)
    rows, deviations = found.components.double().numpy(), found.deviations.double().numpy()
    np.testing.assert_allclose(rows.T @ np.diag(deviations**2) @ rows, covariance, rtol=1e-5)
    np.testing.assert_allclose(rows @ rows.T, np.eye(3), atol=1e-6)
    assert sorted(deviations) == list(deviations)
    assert abs(rows[2].sum()) > 1.6, "the largest is brightness: one a row, not one a column"


def test_with_imagenets_classes_the_components_are_the_released_ones() -> None:
    found = measure(ORIGINAL, photos(Labels.imagenet()), CPU)
    assert torch.equal(found.components, IMAGENET.components)
    assert torch.equal(found.deviations, IMAGENET.deviations)
    assert found.image is not None


def test_a_recipe_that_needs_nothing_reads_no_photo() -> None:
    nothing: Any = None
    assert measure(MODERN, Dataset(nothing, nothing, TWO), CPU) is IMAGENET
    colourless = replace(ORIGINAL, mean_image=False, colour_noise=0.0)
    assert measure(colourless, Dataset(nothing, nothing, TWO), CPU) is IMAGENET


def test_grey_photos_have_two_components_without_deviation() -> None:
    data = photos()
    data.images[:] = data.images[..., :1]
    found = measure(ORIGINAL, data, CPU)
    assert found.deviations[:2].tolist() == pytest.approx([0, 0], abs=1e-3)
    assert found.deviations[2] > 40


def test_the_network_sees_the_centre_of_the_mean_image() -> None:
    image = torch.rand(256, 256, 3)
    pixels = Pixels(IMAGENET.deviations, IMAGENET.components, image)
    mean = pixels.mean(224)
    assert mean is not None
    assert torch.equal(mean, image[16:240, 16:240])
    assert pixels.mean(224) is mean, "it is made once for each size"
    assert IMAGENET.mean(224) is None


def test_at_another_size_the_centre_is_resized() -> None:
    slope = torch.arange(256.0)[:, None, None].expand(256, 256, 3).contiguous()
    mean = Pixels(IMAGENET.deviations, IMAGENET.components, slope).mean(112)
    assert mean is not None
    assert mean.shape == (112, 112, 3)
    torch.testing.assert_close(mean[2:-2, 0, 0], 16.5 + 2 * torch.arange(2.0, 110))
