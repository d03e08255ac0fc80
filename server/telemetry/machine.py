"""Triton's metrics of the machine's CPUs and memory, from /proc."""

import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

SHORTEST_S = 1.0
"""Utilisation is of the time since it was last asked for, and of no less than that."""


class Machine(Collector):
    """Nothing where there is no /proc."""

    def __init__(self, proc: Path = Path("/proc")):
        self._proc = proc
        self._before, self._read, self._utilisation = self._times(), time.monotonic(), 0.0

    def collect(self) -> Iterator[Metric]:
        if not self._before:
            return
        for name, text, value in (
            ("utilization", "Share of the CPUs of this machine that is in use.", self._used()),
            *self._memory(),
        ):
            metric = Metric(f"nv_cpu_{name}", text, "gauge")
            metric.add_sample(metric.name, {}, value)
            yield metric

    def _used(self) -> float:
        now = time.monotonic()
        if now - self._read >= SHORTEST_S or not self._utilisation:
            times = self._times()
            busy, idle = (new - old for new, old in zip(times, self._before, strict=True))
            if busy + idle > 0:
                self._utilisation = busy / (busy + idle)
                self._before, self._read = times, now
        return self._utilisation

    def _times(self) -> tuple[int, ...]:
        """Of all CPUs since the start, in ticks: busy, idle."""
        try:
            first = (self._proc / "stat").read_text(encoding="utf-8").partition("\n")[0]
        except OSError:
            return ()
        user, nice, system, idle, iowait, *rest = map(int, first.split()[1:9])
        return user + nice + system + sum(rest), idle + iowait

    def _memory(self) -> Iterator[tuple[str, str, float]]:
        rows = (
            line.split()
            for line in (self._proc / "meminfo").read_text(encoding="utf-8").splitlines()
        )
        kib = {name: int(size) for name, size, *_ in rows}
        total, free = kib["MemTotal:"] * 1024, kib["MemAvailable:"] * 1024
        yield "memory_total_bytes", "Memory of this machine.", total
        yield "memory_used_bytes", "What of it cannot be given to programs.", total - free
