import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.augment import colour_jitter, random_views


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photos(count: int = 16, side: int = 32) -> Tensor:
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=seeded(9))


def ramp(count: int, side: int) -> Tensor:
    """Pixels that tell where they come from: (row, column, 0)."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    image = torch.stack([rows, columns, torch.zeros_like(rows)], -1).to(torch.uint8)
    return image.expand(count, side, side, 3)


@pytest.mark.parametrize("px", [16, 24, 32, 48])
def test_views_are_planes_of_floats_in_channels_last_memory(px: int) -> None:
    views = random_views(photos(), px, 0.5, seeded())
    assert views.shape == (16, 3, px, px)
    assert views.dtype == torch.float32
    assert views.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("seed", range(10))
def test_views_stay_within_the_range_of_a_pixel(seed: int) -> None:
    views = random_views(photos(), 24, 0.3, seeded(seed))
    assert views.min() >= -1e-3
    assert views.max() <= 255 + 1e-3


def test_the_same_generator_gives_the_same_views() -> None:
    first = random_views(photos(), 24, 0.5, seeded(3))
    assert torch.equal(first, random_views(photos(), 24, 0.5, seeded(3)))
    assert not torch.equal(first, random_views(photos(), 24, 0.5, seeded(4)))


def test_the_photos_are_left_as_they_were() -> None:
    images = photos()
    random_views(images, 32, 1.0, seeded())
    assert torch.equal(images, photos())


@pytest.mark.parametrize("px", [16, 32, 48])
def test_a_view_of_everything_is_the_photo_or_its_mirror_image(px: int) -> None:
    images = photos(64)
    views = random_views(images, px, 1.0, seeded())
    planes = images.permute(0, 3, 1, 2).float()
    plain = F.interpolate(planes, (px, px), mode="bilinear", antialias=px < 32)
    as_is = (views - plain).abs().amax((1, 2, 3)) < 0.01
    mirrored = (views - plain.flip(3)).abs().amax((1, 2, 3)) < 0.01
    assert (as_is ^ mirrored).all()
    assert 16 < mirrored.sum() < 48


def test_views_lie_in_other_places_of_each_photo_and_in_other_sizes_of_each_batch() -> None:
    tops: set[float] = set()
    lefts: set[float] = set()
    heights: set[float] = set()
    for seed in range(8):
        views = random_views(ramp(16, 64), 8, 0.5, seeded(seed))
        rows, columns = views[:, 0].amin((1, 2)), views[:, 1].amin((1, 2))
        tops |= set(rows.round().tolist())
        lefts |= set(columns.round().tolist())
        extent = (views[:, 0].amax((1, 2)) - rows) * 8 / 7
        assert extent.max() - extent.min() < 0.1
        heights.add(round(extent[0].item()))
    assert min(len(tops), len(lefts)) > 10
    assert len(heights) > 3
    assert min(heights) >= 31
    assert max(heights) <= 65


def test_views_are_never_turned_upside_down() -> None:
    views = random_views(ramp(32, 64), 16, 0.5, seeded())
    assert (views[:, 0, -1] > views[:, 0, 0]).all()
    rightwards = (views[:, 1, :, -1] > views[:, 1, :, 0]).all(1)
    assert 0 < rightwards.sum() < 32


def test_jitter_scales_about_the_middle_and_shifts_each_photo_by_itself() -> None:
    x = torch.stack([torch.full((3, 4, 4), 128.0), torch.full((3, 4, 4), 228.0)]).repeat(
        50, 1, 1, 1
    )
    x[:, :, 0] -= 100
    y = colour_jitter(x, 0.2, seeded())
    contrast = (y[:, 0, 1, 0] - y[:, 0, 0, 0]) / 100
    middle = y[::2, 0, 1, 0] - 128
    assert contrast.min() >= 0.8
    assert contrast.max() <= 1.2
    assert middle.abs().max() <= 25.6
    assert len(set(contrast.tolist())) > 90
    assert middle.min() < -10
    assert middle.max() > 10
    assert contrast.min() < 0.9
    assert contrast.max() > 1.1


def test_no_jitter_changes_nothing_and_a_generator_repeats_it() -> None:
    x = 255 * torch.rand(4, 3, 8, 8, generator=seeded())
    torch.testing.assert_close(colour_jitter(x, 0.0, seeded()), x)
    assert torch.equal(colour_jitter(x, 0.2, seeded(1)), colour_jitter(x, 0.2, seeded(1)))
