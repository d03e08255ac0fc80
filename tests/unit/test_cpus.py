"""How many threads a container with a quota gets."""

import os
from pathlib import Path

import pytest

from server.scheduler import cpus


@pytest.fixture(autouse=True)
def _eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("10000 100000\n", 1),
        ("6400000 100000\n", 8),
        ("max 100000\n", 8),
        ("no quota at all", 8),
        ("", 8),
    ],
)
def test_the_quota_bounds_the_affinity_mask(tmp_path: Path, quota: str, expected: int) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(quota)
    assert cpus.available(path) == expected


def test_without_a_quota_the_affinity_mask_counts(tmp_path: Path) -> None:
    assert cpus.available(tmp_path / "missing") == 8


def test_there_is_always_at_least_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set())
    assert cpus.available(tmp_path / "missing") == 1
