from dataclasses import replace

import pytest

from training.batches import Batches
from training.recipe import MODERN, ORIGINAL, SMOKE


def places(batches: Batches) -> list[int]:
    return [i for n in range(len(batches)) for i in range(1_000)[batches.place(n)]]


@pytest.mark.parametrize("photos", range(16, 70))
@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("arch", ["alexnet-bn", "alexnet2012"])
def test_every_photo_is_in_one_batch_of_which_each_process_has_a_part(
    photos: int, processes: int, arch: str
) -> None:
    batches = Batches.of(replace(SMOKE, arch=arch), photos, processes)
    assert places(batches) == list(range(photos))
    counts = batches.counts
    assert sum(counts) == photos
    assert set(counts[:-1]) <= {16}
    parts = [len(range(n)[rank::processes]) for n in counts for rank in range(processes)]
    assert min(parts) >= (2 if arch == "alexnet-bn" else 1)
    assert max(counts) < 16 + 2 * processes


@pytest.mark.parametrize(
    ("photos", "expected"), [(300, [128, 128, 44]), (257, [128, 128, 1]), (256, [128, 128])]
)
def test_the_last_batch_of_2012_is_smaller(photos: int, expected: list[int]) -> None:
    batches = Batches.of(ORIGINAL, photos, 1)
    assert batches.counts == expected


@pytest.mark.parametrize(
    ("photos", "expected"), [(2049, [1024, 1025]), (2175, [1024, 1151]), (2176, [1024, 1024, 128])]
)
def test_with_batch_norm_a_small_rest_joins_the_batch_before_it(
    photos: int, expected: list[int]
) -> None:
    batches = Batches.of(MODERN, photos, 1)
    assert batches.counts == expected
