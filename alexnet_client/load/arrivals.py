"""The moments when requests are due, and an event loop that wakes up on time for them."""

import asyncio
import select
import selectors
import sys
from random import Random


def draw_arrivals(rate: float, seconds: float, random: Random) -> list[float]:
    """A Poisson process, as of independent users, in seconds from the start: exponential gaps with
    mean 1/rate."""
    due, times = random.expovariate(rate), []
    while due < seconds:
        times.append(due)
        due += random.expovariate(rate)
    return times


def punctual_loop() -> asyncio.AbstractEventLoop:
    """Asyncio on Linux sleeps whole milliseconds, which would add half a one to every latency."""
    return asyncio.SelectorEventLoop(_PunctualSelector()) if _LINUX else asyncio.new_event_loop()


if _LINUX := sys.platform == "linux":

    class _PunctualSelector(selectors.EpollSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is None or timeout <= 0:
                return super().select(timeout)
            select.select([self.fileno()], [], [], timeout)  # select can wait for the epoll itself
            return super().select(0)
