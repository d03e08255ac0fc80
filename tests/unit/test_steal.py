"""CPU steal: the share of time that the hypervisor gave to other machines."""

from pathlib import Path

import pytest

from benchmarks import steal
from benchmarks.steal import Steal


def test_steal_is_a_share_of_all_cpu_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    monkeypatch.setattr(steal, "STAT", stat)
    # Guest time (the last two) is part of user time already.
    stat.write_text("cpu  100 10 20 1000 5 0 1 50 7 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
    with Steal() as found:
        stat.write_text("cpu  140 10 30 1040 5 0 1 60 9 0\ncpu0 2 2 2 2 2 2 2 2 0 0\n")
    assert found.share == 0.1


def test_without_proc_stat_the_steal_is_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steal, "STAT", tmp_path / "there is none")
    with Steal() as found:
        pass
    assert found.share == 0
