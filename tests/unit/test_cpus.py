"""How many threads a container with a quota gets, and which threads yield."""

import os
import threading
from pathlib import Path

import pytest

from server.scheduler import cpus


@pytest.fixture(autouse=True)
def _eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def available(cgroups: Path, membership: str = "") -> int:
    file = cgroups / "membership"
    file.write_text(membership)
    return cpus.available(cgroups, file)


def limited(folder: Path, version: int, limit: str, period: str = "100000") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if version == 2:
        (folder / "cpu.max").write_text(f"{limit} {period}\n")
    else:
        (folder / "cpu.cfs_quota_us").write_text(f"{limit}\n")
        (folder / "cpu.cfs_period_us").write_text(f"{period}\n")


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("200000", 2), ("150000", 2), ("10000", 1), ("6400000", 8), ("max", 8), ("-1", 8), ("", 8)],
)
@pytest.mark.parametrize(
    ("folder", "version"), [(".", 2), ("cpu", 1), ("cpu,cpuacct", 1)], ids=["v2", "v1", "v1-both"]
)
def test_the_quota_of_a_container_bounds_the_affinity_mask(
    tmp_path: Path, folder: str, version: int, limit: str, expected: int
) -> None:
    limited(tmp_path / folder, version, limit)
    assert available(tmp_path) == expected


def test_the_quota_of_a_unit_of_systemd_counts_and_so_do_those_around_it(tmp_path: Path) -> None:
    here = "/system.slice/alexnet.service"
    limited(tmp_path / "system.slice" / "alexnet.service", 2, "300000")
    assert available(tmp_path, f"0::{here}\n") == 3
    limited(tmp_path / "system.slice", 2, "200000")
    assert available(tmp_path, f"0::{here}\n") == 2


def test_in_version_1_the_cgroup_of_the_cpus_is_the_one_that_counts(tmp_path: Path) -> None:
    limited(tmp_path / "cpu,cpuacct" / "docker" / "abc", 1, "200000")
    limited(tmp_path / "memory" / "docker" / "abc", 1, "100000")
    assert available(tmp_path, "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n") == 2


def test_in_a_container_the_root_counts_where_the_hosts_name_leads_nowhere(tmp_path: Path) -> None:
    limited(tmp_path, 2, "200000")
    assert available(tmp_path, "0::/../../docker/abc\n") == 2
    assert available(tmp_path, "0::/docker/abc\n") == 2


def test_without_a_quota_the_affinity_mask_counts(tmp_path: Path) -> None:
    assert available(tmp_path) == 8
    assert cpus.available(tmp_path / "missing", tmp_path / "missing") == 8


def test_there_is_always_at_least_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set())
    assert available(tmp_path) == 1


def test_a_thread_that_ends_meanwhile_does_not_keep_the_others_from_yielding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        for ended in range(20):
            (tmp_path / f"ended-{ended}").mkdir()
        task = tmp_path / str(thread.native_id)
        task.mkdir()
        (task / "comm").write_text("event_engine\n")
        listed = sorted(tmp_path.iterdir(), key=lambda folder: folder == task)
        monkeypatch.setattr(Path, "iterdir", lambda folder: iter(listed))
        cpus.threads_yield({"event_engine"}, cpus.DECODER, tmp_path)
        assert os.getpriority(os.PRIO_PROCESS, thread.native_id or 0) == cpus.DECODER
    finally:
        done.set()
        thread.join()
