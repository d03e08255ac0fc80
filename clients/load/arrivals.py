"""When requests are due, and an event loop that wakes up for them on time."""

import asyncio
import select
import selectors
import sys
from random import Random


def poisson(rate: float, seconds: float, random: Random) -> list[float]:
    """Seconds from the start; gaps are exponential with mean 1/rate, as between people who do not
    know of each other."""
    due, times = random.expovariate(rate), []
    while due < seconds:
        times.append(due)
        due += random.expovariate(rate)
    return times


def punctual_loop() -> asyncio.AbstractEventLoop:
    """On Linux asyncio sleeps whole milliseconds, which would add half of one to every latency."""
    return asyncio.SelectorEventLoop(_Punctual()) if _LINUX else asyncio.new_event_loop()


if _LINUX := sys.platform == "linux":

    class _Punctual(selectors.EpollSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is None or timeout <= 0:
                return super().select(timeout)
            select.select([self.fileno()], [], [], timeout)  # an epoll is a file like any other
            return super().select(0)
