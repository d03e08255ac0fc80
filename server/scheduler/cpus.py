"""How many CPUs this process may use: its affinity mask, and its container's quota."""

import math
import os
import threading
from contextlib import suppress
from pathlib import Path

# Niceness: event loop (0) > engine > decoders > the loader of another version.
ENGINE, DECODER, LOADER = 5, 10, 19

CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")


def available(quota: Path = CGROUP_V2) -> int:
    """At least 1. A container with 2 of 64 cores gets 2 threads and not 64."""
    cpus = len(os.sched_getaffinity(0))
    try:
        limit, period = quota.read_text().split()
        if limit != "max":
            cpus = min(cpus, math.ceil(int(limit) / int(period)))
    except (OSError, ValueError):  # no cgroup v2: the mask alone counts
        pass
    return max(1, cpus)


def name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """As the processor calls itself; empty when it does not say."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")


def yield_to_others(nice: int) -> None:
    """Of the calling thread, and of those that it will start: the scheduler prefers the others.

    On Linux niceness belongs to the thread. Where it does not, or is not allowed, nothing happens.
    """
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
