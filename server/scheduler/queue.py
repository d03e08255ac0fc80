"""Who is next: priorities share by weight, and within one the earliest deadline goes first.

Shares, not ranks: while two levels both wait, the higher gets `SHARE` photos for each of the next,
so that none is starved (stride scheduling, Waldspurger and Weihl 1995). A level alone gets all.
"""

import math
from bisect import bisect_left, bisect_right, insort
from itertools import count

from server.scheduler.job import Job

SHARE = 4
"""Photos of a level for each one of the level below it, while both wait."""

_Entry = tuple[float, int, Job]  # deadline, order of arrival


class FairQueue:
    """Jobs that wait for one resource; not safe for threads: its owner has the lock."""

    def __init__(self, levels: int):
        self._lanes: list[list[_Entry]] = [[] for _ in range(levels)]
        self._weights = [float(SHARE ** (levels - 1 - i)) for i in range(levels)]
        # A level's clock: photos served by its weight. Whose next photo ends first is next.
        self._clocks = [0.0] * levels
        self._now = 0.0
        self._order = count()
        self._places: dict[Job, _Entry] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, job: Job) -> bool:
        return job in self._places

    @property
    def oldest(self) -> float:
        """The earliest arrival; raises ValueError when nobody waits."""
        return min(job.arrived for job in self._places)

    @property
    def earliest(self) -> float:
        """The first deadline, of whatever level; raises ValueError when nobody waits."""
        return min(lane[0][0] for lane in self._lanes if lane)

    def push(self, job: Job) -> None:
        lane = job.level - 1
        if not self._lanes[lane]:  # who was away has saved nothing up
            self._clocks[lane] = max(self._clocks[lane], self._now)
        entry = self._places[job] = (job.deadline, next(self._order), job)
        insort(self._lanes[lane], entry)

    def pop(self) -> Job:
        """Raises IndexError when nobody waits."""
        lane = self._next_lane()
        _, _, job = self._lanes[lane].pop(0)
        self._now = max(self._now, self._clocks[lane])
        self._clocks[lane] += 1 / self._weights[lane]
        del self._places[job]
        return job

    def peek(self) -> Job:
        """Who `pop` would give; raises IndexError when nobody waits."""
        return self._lanes[self._next_lane()][0][2]

    def remove(self, job: Job) -> bool:
        """False when the job does not wait here."""
        entry = self._places.pop(job, None)
        if entry is None:
            return False
        lane = self._lanes[job.level - 1]
        del lane[bisect_left(lane, entry)]
        return True

    def around(self, level: int, deadline: float) -> tuple[list[Job], list[Job]]:
        """Who would be served before and after a job of this level and deadline if it came now."""
        if not self._places:
            return [], []
        lane = level - 1
        # Whoever has the same deadline came before: the order of arrival is never infinite.
        mine = bisect_right(self._lanes[lane], (deadline, math.inf))
        before: list[Job] = []
        after: list[Job] = []
        for i, waiting in enumerate(self._lanes):
            first = mine
            if i != lane:
                # As many as their share of the time until it is served; higher ones first.
                theirs = (mine + 1) * self._weights[i] / self._weights[lane]
                first = math.floor(theirs) if i < lane else math.ceil(theirs) - 1
            before += [job for _, _, job in waiting[:first]]
            after += [job for _, _, job in waiting[first:]]
        return before, after

    def _next_lane(self) -> int:
        waiting = [i for i, lane in enumerate(self._lanes) if lane]
        if not waiting:
            raise IndexError("nobody waits")
        return min(waiting, key=lambda i: self._clocks[i] + 1 / self._weights[i])
