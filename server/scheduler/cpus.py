"""How many CPUs this process may use: its affinity mask, and its container's quota."""

import math
import os
import threading
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

# Niceness: event loop (0) > engine > decoders > the loader of another version.
ENGINE, DECODER, LOADER = 5, 10, 19

CGROUPS, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
TASKS = Path("/proc/self/task")


def available(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """At least 1. A container with 2 of 64 cores gets 2 threads and not 64, and a unit of systemd
    what its CPUQuota says."""
    cpus = len(os.sched_getaffinity(0))
    for folder in _cgroups(cgroups, membership):
        with suppress(OSError, ValueError):  # no such cgroup, or no quota in it
            cpus = min(cpus, _quota(folder))
    return max(1, cpus)


def _cgroups(cgroups: Path, membership: Path) -> Iterator[Path]:
    """Of this process and those around it: v2 has one tree, v1 one for the CPUs. A container may
    see its own cgroup as the root, while `membership` names it as the host does."""
    trees = {cgroups: "/", cgroups / "cpu": "/", cgroups / "cpu,cpuacct": "/"}
    with suppress(OSError):
        for line in membership.read_text(encoding="utf-8").splitlines():
            _, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            tree = cgroups / controllers
            if tree in trees:
                trees[tree] = path
    for tree, path in trees.items():
        here = tree / path.lstrip("/")
        yield from (here, *(parent for parent in here.parents if parent.is_relative_to(tree)))


def _quota(folder: Path) -> int:
    """Raises OSError or ValueError where there is none."""
    try:
        limit, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
    except OSError:
        limit = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8")
        period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8")
    if int(limit) <= 0:  # v1 says -1
        raise ValueError("no quota")
    return math.ceil(int(limit) / int(period))


def name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """As the processor calls itself; empty when it does not say."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")


def yield_to_others(nice: int) -> None:
    """Of the calling thread, and of those that it will start: the scheduler prefers the others.

    On Linux niceness belongs to the thread. Where it does not, or is not allowed, nothing happens.
    """
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)


def threads_yield(names: Collection[str], nice: int, tasks: Path = TASKS) -> None:
    """Of this process's threads that a library has started, and named so, and of those that they
    will start. A thread may end while the others are looked at."""
    for thread in tasks.iterdir() if tasks.is_dir() else ():
        with suppress(OSError):
            if (thread / "comm").read_text(encoding="utf-8").strip() in names:
                os.setpriority(os.PRIO_PROCESS, int(thread.name), nice)
