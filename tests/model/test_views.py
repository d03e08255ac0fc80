"""The views that a teacher answers for: functions of seed, photo and number."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from training.views import MOST_VIEWS, Boxes, boxes

SIDE, SPAN = 64, (0.5, 1.0)


def drawn(photos: list[int], numbers: list[int], seed: int = 3) -> Boxes:
    return boxes(seed, np.array(photos), np.array(numbers), SIDE, SPAN)


def rows(views: Boxes) -> list[tuple[int, ...]]:
    return list(zip(*(values.int().tolist() for values in vars(views).values()), strict=True))


def test_a_view_depends_on_seed_photo_and_number_and_on_nothing_else() -> None:
    alone, among = drawn([70_000], [1]), drawn([5, 70_000, 9], [0, 1, 1])
    assert rows(alone)[0] == rows(among)[1]
    others = [*rows(among)[::2], *rows(drawn([70_000], [0])), *rows(drawn([70_000], [1], seed=4))]
    assert rows(alone)[0] not in others


def test_views_lie_in_the_photo_and_are_spread_like_those_of_training() -> None:
    views = boxes(0, np.arange(40_000), np.zeros(40_000, np.int64), SIDE, SPAN)
    for start, size in ((views.tops, views.heights), (views.lefts, views.widths)):
        assert start.min() == 0
        assert (start + size).max() == SIDE
        assert (size.min().item(), size.max().item()) == (SIDE // 2, SIDE)
        assert size.double().mean().item() == pytest.approx(48, abs=0.3)
        free = start / (SIDE - size).clamp(min=1)
        assert free[size < 60].mean().item() == pytest.approx(0.5, abs=0.01)
    assert views.mirrored.double().mean().item() == pytest.approx(0.5, abs=0.01)
    ratio = views.heights / views.widths
    assert 0.7 < ratio.min() < ratio.max() < 1.4
    both = torch.stack([views.tops.double(), views.lefts.double(), views.mirrored.double()])
    assert (both.corrcoef() - torch.eye(3)).abs()[2].max() < 0.02


def test_the_two_views_of_a_photo_and_neighbouring_photos_are_independent() -> None:
    first, second = (boxes(0, np.arange(20_000), np.full(20_000, n), SIDE, SPAN) for n in (0, 1))
    pairs = [(first.heights, second.heights), (first.heights[1:], first.heights[:-1])]
    for one, two in pairs:
        assert torch.stack([one.double(), two.double()]).corrcoef()[0, 1].abs() < 0.03


def test_numbers_beyond_the_last_view_are_refused() -> None:
    with pytest.raises(ValueError, match="views 0 to 1023"):
        drawn([0], [MOST_VIEWS])


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("px", [20, 96])
def test_a_cut_is_the_resized_slice_of_its_photo_or_the_mirror_image(kernel: str, px: int) -> None:
    images = torch.randint(
        0, 256, (6, SIDE, SIDE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    index = torch.tensor([5, 0, 0, 3, 2, 1])
    views = drawn(index.tolist(), [0, 0, 1, 2, 3, 4])
    cut = views.cut(images, index, px, kernel)
    assert cut.dtype == torch.uint8
    assert cut.shape == (6, px, px, 3)
    assert cut.is_contiguous()
    assert 0 < views.mirrored.sum() < 6
    for i, (top, left, height, width, mirrored) in enumerate(rows(views)):
        slice_ = images[index[i], top : top + height, left : left + width].permute(2, 0, 1)[None]
        smooth = kernel != "nearest" and max(height, width) > px
        plain = F.interpolate(slice_, (px, px), mode=kernel, antialias=smooth)
        expected = plain[0].permute(1, 2, 0)
        expected = expected.flip(1) if mirrored else expected
        assert torch.equal(cut[i], expected)
