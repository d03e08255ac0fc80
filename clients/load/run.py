"""The load generator: sends requests when they are due, whatever became of the ones before.

A generator that waits for an answer before it sends the next request asks least when the server is
slowest, and does not count those who would have come meanwhile. Here the moments are drawn before
the run and latency counts from them, so a stall of the server is in the latency of every request
that fell into it, and so is every delay of the generator's own.
"""

import asyncio
import time
from random import Random

from clients.load.arrivals import poisson
from clients.load.point import Load, Point, Sent, point
from clients.load.sender import CANCELLED, NOT_SENT, OK, Reply, Sender

WARM_UP = 4  # requests on each connection, before the run
WARM_UP_TIMEOUT_S = 10.0


class NoAnswerError(Exception):
    """Not one photo of the first few was classified; the message is the outcomes."""


async def run_point(sender: Sender, load: Load) -> Point:
    """Raises NoAnswerError. Takes `load.seconds`, one timeout and what opens the connections."""
    await _warm_up(sender)
    run, cpu_s = _Run(sender, load), time.process_time()
    await (run.closed() if load.rate is None else run.open(load.rate))
    return point(load, run.sent, sender, time.process_time() - cpu_s)


async def _warm_up(sender: Sender) -> None:
    for _ in range(WARM_UP):
        photos = (i % sender.photos for i in range(sender.connections))
        replies = await asyncio.gather(*(sender.send(i, WARM_UP_TIMEOUT_S) for i in photos))
        outcomes = {reply.outcome for reply in replies}
        if OK not in outcomes:
            raise NoAnswerError(", ".join(sorted(outcomes)))


class _Run:
    def __init__(self, sender: Sender, load: Load) -> None:
        self.sent: list[Sent] = []
        self._sender, self._load = sender, load
        self._random = Random(f"{load.seed} {load}")
        self._in_flight = 0
        self._start = time.perf_counter()

    async def open(self, rate: float) -> None:
        load, random = self._load, self._random
        plan = [(due, self._cancel_after_s()) for due in poisson(rate, load.seconds, random)]
        self._start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for due, cancel_after_s in plan:
                # Also when it is late: answers have to be seen.
                await asyncio.sleep(max(0.0, due - self._now()))
                now = self._now()
                if self._in_flight >= load.max_in_flight or now > load.seconds + load.timeout_s:
                    self.sent.append(Sent(due, now, now, NOT_SENT, b""))
                else:
                    self._send(group, due, cancel_after_s)

    async def closed(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._load.concurrency or 1):
                group.create_task(self._client(group))

    async def _client(self, group: asyncio.TaskGroup) -> None:
        while (now := self._now()) < self._load.seconds:
            await asyncio.wait([self._send(group, now, self._cancel_after_s())])

    def _send(
        self, group: asyncio.TaskGroup, due: float, cancel_after_s: float | None
    ) -> asyncio.Task[None]:
        task = group.create_task(self._record(due, self._random.randrange(self._sender.photos)))
        self._in_flight += 1
        if cancel_after_s is not None:
            delay = due + cancel_after_s - self._now()
            asyncio.get_running_loop().call_later(delay, task.cancel)
        return task

    async def _record(self, due: float, photo: int) -> None:
        sent = self._now()
        try:
            reply = await self._sender.send(photo, due + self._load.timeout_s - sent)
        except asyncio.CancelledError:
            reply = Reply(CANCELLED)
        self.sent.append(Sent(due, sent, self._now(), reply.outcome, reply.body))
        self._in_flight -= 1

    def _now(self) -> float:
        return time.perf_counter() - self._start

    def _cancel_after_s(self) -> float | None:
        load, random = self._load, self._random
        return random.uniform(0, load.timeout_s) if random.random() < load.cancel else None
