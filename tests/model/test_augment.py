from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.augment import Views, draw
from training.pixels import Pixels
from training.recipe import ORIGINAL, PAPER, Recipe

# One size, no jitter: a crop and a mirror image and nothing else.
CROP = Recipe("test", 1, view=(0.5, 0.5), jitter=0.0, mean=(120.0, 110.0, 100.0), std=(2.0,) * 3)
EVERYTHING = replace(CROP, view=(1.0, 1.0))

# RGB standard deviations and, one a row, the principal components (cuda-convnet2's data).
DEVIATIONS = np.array([19.7208, 37.0939, 121.7801])
COMPONENTS = np.array(
    [
        [0.41795513, -0.81698062, 0.39731118],
        [-0.71257945, -0.02354167, 0.70119634],
        [-0.56351045, -0.5761844, -0.59200296],
    ]
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photos(count: int = 16, side: int = 32) -> Tensor:
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=rng(9))


def views_of(images: Tensor, recipe: Recipe, px: int, seed: int = 0) -> tuple[Views, Tensor]:
    views = draw(recipe, len(images), images.shape[1], px, 0.0, rng(seed))
    return views, views(views.cut(images, torch.arange(len(images))), recipe)


def pixels(x: Tensor, recipe: Recipe) -> Tensor:
    """The network's input on the scale of pixels."""
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (recipe.mean, recipe.std))
    return x * std + mean


def test_2012_crops_at_33_by_33_places_equally_often() -> None:
    views = draw(replace(ORIGINAL, chunk=1), 33 * 500, 256, 224, 0.0, rng())
    assert (views.size, views.px) == ((224, 224), 224)
    for places in (views.tops, views.lefts):
        counts = torch.bincount(places)
        assert len(counts) == 33
        assert counts.min() > 400
        assert counts.max() < 600
    both = torch.stack([views.tops, views.lefts]).double()
    assert both.corrcoef()[0, 1].abs() < 0.05
    assert views.mirrored.double().mean().item() == pytest.approx(0.5, abs=0.02)


def test_the_paper_counts_2048_views_of_a_photo() -> None:
    """32 x 32 places, each mirrored; the code has a place more on each axis."""
    views = draw(PAPER, 33 * 500, 256, 224, 0.0, rng())
    for places in (views.tops, views.lefts):
        assert (int(places.min()), int(places.max())) == (0, 31)
        assert torch.bincount(places).min() > 400


def test_without_the_far_edge_a_crop_of_everything_is_still_possible() -> None:
    views = draw(replace(EVERYTHING, far_edge=False), 4, 32, 32, 0.0, rng())
    assert views.tops.tolist() == views.lefts.tolist() == [0] * 4


def test_in_2012_32_consecutive_photos_share_place_and_flip_but_not_colour() -> None:
    views = draw(ORIGINAL, 32 * 40, 256, 224, 0.1, rng())
    for shared in (views.tops, views.lefts, views.mirrored):
        chunks = shared.reshape(40, 32)
        assert (chunks == chunks[:, :1]).all()
        assert len(set(chunks[:, 0].tolist())) > 1
    assert len(set(views.shift[:, 0].tolist())) > 1200


def test_a_batch_that_is_no_multiple_of_the_chunk_has_a_short_one() -> None:
    views = draw(ORIGINAL, 40, 256, 224, 0.1, rng())
    drawn = (views.tops, views.lefts, views.mirrored, views.gain, views.shift)
    assert [len(v) for v in drawn] == [40] * 5


def test_a_cut_is_a_slice_of_the_chosen_photo_or_its_mirror_image() -> None:
    images, index = photos(6, 40), torch.tensor([5, 0, 0, 3] * 4)
    views = draw(replace(CROP, view=(0.4, 0.9)), len(index), 40, 32, 0.0, rng())
    height, width = views.size
    cut = views.cut(images, index)
    assert cut.dtype == torch.uint8
    for i, photo in enumerate(index):
        top, left = int(views.tops[i]), int(views.lefts[i])
        expected = images[photo, top : top + height, left : left + width]
        assert torch.equal(cut[i], expected.flip(1) if views.mirrored[i] else expected)
    assert 0 < views.mirrored.sum() < len(index)


@pytest.mark.parametrize("recipe", [ORIGINAL, Recipe("test", 1, sharpness=1.0)])
@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_get_the_same_views_as_one(recipe: Recipe, count: int) -> None:
    images, index = photos(12, 256), torch.arange(11, -1, -1)
    views = draw(recipe, 12, 256, 64, 0.1, rng())
    assert (views.sharpness is not None) == (recipe.sharpness > 0)
    whole = views(views.cut(images, index), recipe)
    for rank in range(count):
        own = views.part(rank, count)
        part = own(own.cut(images, index[rank::count]), recipe)
        torch.testing.assert_close(part, whole[rank::count], rtol=1e-5, atol=1e-4)


def covariance(recipe: Recipe) -> np.ndarray:
    """The covariance of the colour shifts, whose mean must be 0."""
    shift = draw(recipe, 200_000, 256, 224, 0.1, rng()).shift.double().numpy()
    np.testing.assert_allclose(shift.mean(0), 0, atol=0.1)
    return np.cov(shift.T)


def test_colours_shift_along_the_principal_components_by_a_tenth_of_their_deviation() -> None:
    expected = COMPONENTS.T @ np.diag((0.1 * DEVIATIONS) ** 2) @ COMPONENTS / 1.1**2
    np.testing.assert_allclose(covariance(ORIGINAL), expected, rtol=0.02, atol=0.1)


def test_most_of_the_colour_noise_is_brightness_as_released() -> None:
    """0.893 of its variance lies along grey; with the components transposed it was 0.138."""
    grey = np.ones(3) / np.sqrt(3)
    found = covariance(ORIGINAL)
    assert grey @ found @ grey / np.trace(found) == pytest.approx(0.893, abs=0.003)


def test_the_paper_weighs_components_by_eigenvalues_and_does_not_scale_photos() -> None:
    deviations = 0.1 * DEVIATIONS**2 / 255
    expected = COMPONENTS.T @ np.diag(deviations**2) @ COMPONENTS
    np.testing.assert_allclose(covariance(PAPER), expected, rtol=0.02, atol=0.03)
    assert set(draw(PAPER, 20, 256, 224, 0.1, rng()).gain.tolist()) == {1.0}


def test_2012_divides_photos_by_1_1_only_while_colours_shift() -> None:
    noisy, clean = (draw(ORIGINAL, 64, 256, 224, noise, rng()) for noise in (0.1, 0.0))
    assert noisy.gain.tolist() == pytest.approx([1 / 1.1] * 64)
    assert set(clean.gain.tolist()) == {1.0}
    assert not clean.shift.any()


def test_a_view_is_the_pixels_less_the_mean_over_the_deviation() -> None:
    images = photos(64)
    views, x = views_of(images, EVERYTHING, 32)
    images[views.mirrored] = images[views.mirrored].flip(2)
    mean, std = torch.tensor(EVERYTHING.mean), torch.tensor(EVERYTHING.std)
    torch.testing.assert_close(x, ((images - mean) / std).permute(0, 3, 1, 2))


def test_noise_and_gain_are_about_the_mean() -> None:
    images = photos(32, 256)
    views = draw(ORIGINAL, 32, 256, 224, 0.1, rng(1))
    cut = views.cut(images, torch.arange(32))
    mean = torch.tensor([127.226, 118.587, 103.448])
    expected = (cut - mean) / 1.1 + views.shift[:, None, None]
    torch.testing.assert_close(views(cut, ORIGINAL), expected.permute(0, 3, 1, 2))


def test_the_mean_image_is_subtracted_whatever_the_place_and_the_flip() -> None:
    images = photos(32, 256)
    recipe = replace(ORIGINAL, chunk=1)
    views = draw(recipe, 32, 256, 224, 0.1, rng(1))
    assert len(set(views.tops.tolist())) > 10
    cut = views.cut(images, torch.arange(32))
    image = 255 * torch.rand(224, 224, 3, generator=rng(5))
    x = views(cut, recipe, image)
    expected = (cut - image) / 1.1 + views.shift[:, None, None]
    torch.testing.assert_close(x, expected.permute(0, 3, 1, 2))
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_colours_shift_along_the_components_that_are_given() -> None:
    red = Pixels(torch.tensor([0.0, 0.0, 50.0]), torch.eye(3).flip(1))
    shift = draw(PAPER, 100, 256, 224, 0.1, rng(), red).shift
    assert not shift[:, 1:].any()
    assert shift[:, 0].std() > 0.5


@pytest.mark.parametrize("px", [16, 48])
def test_a_view_of_everything_is_the_resized_photo_or_its_mirror_image(px: int) -> None:
    images = photos(64)
    views, x = views_of(images, EVERYTHING, px)
    planes = images.permute(0, 3, 1, 2).float()
    plain = F.interpolate(planes, (px, px), mode="bilinear", antialias=px < 32)
    flipped = views.mirrored[:, None, None, None]
    expected = torch.where(flipped, plain.flip(3), plain)
    # The CPU resizes bytes: whole grey levels.
    torch.testing.assert_close(pixels(x, EVERYTHING), expected, rtol=0, atol=1.01)


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("px", [16, 24, 32, 48])
def test_views_are_planes_of_floats_in_channels_last_memory(px: int, kernel: str) -> None:
    recipe = replace(CROP, view=(0.5, 1.0), filters=(kernel,), jitter=0.2, grain=20.0)
    _, x = views_of(photos(), recipe, px)
    assert x.shape == (16, 3, px, px)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("seed", range(5))
def test_views_stay_within_the_range_of_a_pixel(seed: int) -> None:
    recipe = replace(CROP, view=(0.3, 1.0))
    x = pixels(views_of(photos(), recipe, 24, seed)[1], recipe)
    assert x.min() >= -1e-3
    assert x.max() <= 255 + 1e-3


def test_the_same_generator_gives_the_same_views() -> None:
    recipe = Recipe("test", 1, sharpness=1.0)
    first = views_of(photos(), recipe, 24, 3)[1]
    assert torch.equal(first, views_of(photos(), recipe, 24, 3)[1])
    assert not torch.equal(first, views_of(photos(), recipe, 24, 4)[1])


@pytest.mark.parametrize("seed", range(4))
def test_the_photos_are_not_modified(seed: int) -> None:
    images = photos()
    views_of(images, replace(EVERYTHING, jitter=0.2, sharpness=1.0, grain=40.0), 32, seed)
    assert torch.equal(images, photos())


def ramp(count: int, side: int) -> Tensor:
    """Pixels whose values are their positions: (row, column, 0)."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    image = torch.stack([rows, columns, torch.zeros_like(rows)], -1).to(torch.uint8)
    return image.expand(count, side, side, 3)


def test_views_differ_in_place_within_a_batch_and_in_size_between_batches() -> None:
    recipe = replace(CROP, view=(0.5, 1.0))
    drawn = [draw(recipe, 16, 64, 8, 0.0, rng(seed)) for seed in range(20)]
    assert min(len(set(v.tops.tolist())) for v in drawn if v.size[0] < 48) > 4
    assert len({v.size for v in drawn}) > 10
    for height, width in (v.size for v in drawn):
        assert 32 <= min(height, width) <= max(height, width) <= 64
        assert abs(height - width) <= 8  # natural aspect ratios


def test_views_are_never_turned_upside_down() -> None:
    _, x = views_of(ramp(32, 64), CROP, 16)
    assert (x[:, 0, -1] > x[:, 0, 0]).all()
    rightwards = (x[:, 1, :, -1] > x[:, 1, :, 0]).all(1)
    assert 0 < rightwards.sum() < 32


def test_jitter_scales_about_mid_grey_and_shifts_each_photo_by_itself() -> None:
    recipe = replace(EVERYTHING, jitter=0.2)
    images = torch.full((200, 4, 4, 3), 128, dtype=torch.uint8)
    images[:, 0] = 28
    _, x = views_of(images, recipe, 4)
    y = pixels(x, recipe)
    contrast, middle = (y[:, 0, 1, 0] - y[:, 0, 0, 0]) / 100, y[:, 0, 1, 0] - 128
    for drawn, least, most in ((contrast, 0.8, 1.2), (middle, -25.6, 25.6)):
        assert least <= drawn.min() < least + 0.05 * (most - least)
        assert most >= drawn.max() > most - 0.05 * (most - least)
        assert len(set(drawn.tolist())) > 150
    torch.testing.assert_close(y[:, 0], y[:, 2], rtol=0, atol=1e-3)  # colours keep their hue


def views_by_texture(recipe: Recipe) -> dict[str, Views]:
    """Views of both kinds: a batch is sharpened or grainy."""
    drawn = [draw(recipe, 4, 32, 32, 0.0, rng(seed)) for seed in range(20)]
    assert all((v.sharpness is None) != (v.grain is None) for v in drawn)
    return {"grain" if v.sharpness is None else "sharpness": v for v in drawn}


def test_sharpness_changes_fine_detail_and_neither_slopes_nor_the_mean() -> None:
    views = views_by_texture(replace(EVERYTHING, sharpness=1.0, grain=40.0))["sharpness"]
    factors = views.sharpness
    assert factors is not None
    assert ((factors >= 0) & (factors <= 2)).all()
    slope = ramp(4, 32)
    y = pixels(views(slope, EVERYTHING), EVERYTHING)[:, :, 2:-2, 2:-2]
    torch.testing.assert_close(y, slope[:, 2:-2, 2:-2].permute(0, 3, 1, 2).float())
    board = (100 + 50 * (ramp(4, 32).sum(3, keepdim=True) % 2)).expand(-1, -1, -1, 3)
    y = pixels(views(board, EVERYTHING), EVERYTHING)
    torch.testing.assert_close(y.mean((1, 2, 3)), torch.full((4,), 125.0))
    torch.testing.assert_close(y.amax((1, 2, 3)), 125 + 25 * factors)


def test_grain_is_noise_of_that_many_grey_levels_and_leaves_the_mean() -> None:
    views = views_by_texture(replace(EVERYTHING, sharpness=1.0, grain=40.0))["grain"]
    most = views.grain
    assert most is not None
    assert ((most >= 0) & (most <= 40)).all()
    torch.manual_seed(0)
    grey = torch.full((4, 32, 32, 3), 128, dtype=torch.uint8)
    noise = pixels(views(grey, EVERYTHING), EVERYTHING) - 128
    torch.testing.assert_close(noise.abs().amax((1, 2, 3)), most, rtol=0.02, atol=0.0)
    assert (noise.mean((1, 2, 3)).abs() < 0.05 * most).all()
