"""CPU time that the hypervisor gave to other machines, which disturbs measurements."""

from pathlib import Path
from typing import Self

STAT = Path("/proc/stat")


class Steal:
    """`with Steal() as steal:`; afterwards `steal.share` of the time of all cores, 0 to 1; 0 where
    the kernel does not report it. See proc(5)."""

    share = 0.0

    def __enter__(self) -> Self:
        self._before = _times()
        return self

    def __exit__(self, *exception: object) -> None:
        passed = [b - a for a, b in zip(self._before, _times(), strict=True)]
        if any(passed):
            self.share = passed[7] / sum(passed[:8])


def _times() -> list[int]:
    """user, nice, system, idle, iowait, irq, softirq, steal, ... in ticks."""
    first = STAT.read_text().partition("\n")[0] if STAT.exists() else ""
    return [int(ticks) for ticks in first.split()[1:]]
