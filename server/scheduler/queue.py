"""Which job is next: priorities share by weight, and within one the earliest turn goes first, which
is the deadline unless told.

Shares, not ranks: while two levels both wait, the higher gets `SHARE` photos for each of the next,
so that none is starved (stride scheduling, Waldspurger and Weihl 1995). A level alone gets all.
"""

import math
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from itertools import count
from operator import attrgetter

from server.scheduler.job import Job

SHARE = 4
"""Photos of a level for each one of the level below it, while both wait."""

_Entry = tuple[float, int, Job]  # turn, order of arrival
_DEADLINE: Callable[[Job], float] = attrgetter("deadline")


class FairQueue:
    """Jobs that wait for one resource. `remove` and `around` may be called by any thread, the rest
    by one that holds `changed`."""

    def __init__(self, levels: int, turn: Callable[[Job], float] = _DEADLINE):
        """`turn`: within a level the job whose turn is earliest goes first."""
        self._turn = turn
        self._levels: list[list[_Entry]] = [[] for _ in range(levels)]
        self._weights = [float(SHARE ** (levels - 1 - i)) for i in range(levels)]
        # Of each level: photos served by its weight. The level whose next photo ends first is next.
        self._clocks = [0.0] * levels
        self._now = 0.0
        self._order = count()
        self.changed = threading.Condition(threading.Lock())
        self.jobs: dict[Job, _Entry] = {}
        """All that wait, in the order of arrival."""

    @property
    def earliest(self) -> float:
        """The first turn, of whatever level; raises ValueError when nothing waits."""
        return min([entries[0][0] for entries in self._levels if entries])

    def push(self, job: Job) -> None:
        level = job.level - 1
        if not self._levels[level]:  # a level that was empty has saved nothing up
            self._clocks[level] = max(self._clocks[level], self._now)
        entry = self.jobs[job] = (self._turn(job), next(self._order), job)
        insort(self._levels[level], entry)

    def pop(self, fits: Callable[[Job], bool] = lambda job: True) -> Job:
        """The first that fits; the others keep their turn. Raises IndexError when none does."""
        for level in self._by_clock():
            for i, entry in enumerate(self._levels[level]):
                if fits(entry[2]):
                    return self._taken(level, i)
        raise IndexError("nothing waits that fits")

    def _taken(self, level: int, i: int) -> Job:
        turn, order, job = self._levels[level].pop(i)
        # Not the job itself, which would live on.
        self._undo = level, turn, order, self._clocks[level], self._now
        self._now = max(self._now, self._clocks[level])
        self._clocks[level] += 1 / self._weights[level]
        del self.jobs[job]
        return job

    def put_back(self, job: Job) -> None:
        """Undoes the `pop` that gave it; nothing may have happened since."""
        level, turn, order, self._clocks[level], self._now = self._undo
        entry = self.jobs[job] = turn, order, job
        insort(self._levels[level], entry)

    def remove(self, job: Job) -> bool:
        """False when the job does not wait here."""
        with self.changed:
            entry = self.jobs.pop(job, None)
            if entry is None:
                return False
            entries = self._levels[job.level - 1]
            del entries[bisect_left(entries, entry)]
            return True

    def clear(self) -> list[Job]:
        """All that waited."""
        return [self.pop() for _ in range(len(self.jobs))]

    def around(self, level: int, turn: float) -> tuple[list[Job], list[Job]]:
        """The jobs before and behind one of this level and turn, if it came now."""
        own, weights = level - 1, self._weights
        before: list[Job] = []
        behind: list[Job] = []
        with self.changed:
            # A job with the same turn came before: the order of arrival is never infinite.
            mine = bisect_right(self._levels[own], (turn, math.inf))
            for i, entries in enumerate(self._levels):
                first = mine
                if i != own:
                    # As many as their share of the time until it is served; higher levels first.
                    theirs = (mine + 1) * weights[i] / weights[own]
                    first = math.floor(theirs) if i < own else math.ceil(theirs) - 1
                before += [job for _, _, job in entries[:first]]
                behind += [job for _, _, job in entries[first:]]
        return before, behind

    def _by_clock(self) -> list[int]:
        """The levels, the one that is next first."""
        ends = [self._clocks[i] + 1 / self._weights[i] for i in range(len(self._levels))]
        return sorted(range(len(ends)), key=ends.__getitem__)
