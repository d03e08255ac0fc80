"""The load generator: sends each request when it is due, whatever the state of earlier ones.

A generator that waits for an answer before it sends the next request sends least when the server is
slowest, and misses the requests that would have arrived meanwhile ("coordinated omission"). Here
the arrivals are drawn before the run and latency counts from them, so it includes every stall of
the server and every delay of the generator itself.
"""

import asyncio
import time
from random import Random

from alexnet_client.load.arrivals import draw_arrivals
from alexnet_client.load.point import Load, Point, Request, summarise
from alexnet_client.load.sender import CANCELLED, NOT_SENT, OK, Reply, Sender

WARM_UP = 4  # requests on each connection, before the run
WARM_UP_TIMEOUT_S = 10.0


class NoAnswerError(Exception):
    """None of the warm-up photos was classified; the message lists the outcomes."""


async def run_point(sender: Sender, load: Load) -> Point:
    """Raises NoAnswerError. Takes `load.seconds`, one timeout and the warm-up at most."""
    await _warm_up(sender)
    run, cpu_s = _Run(sender, load), time.process_time()
    await (run.closed_loop() if load.rate is None else run.open_loop(load.rate))
    return summarise(load, run.sent, sender, time.process_time() - cpu_s)


async def _warm_up(sender: Sender) -> None:
    for _ in range(WARM_UP):
        photos = (i % sender.photos for i in range(sender.connections))
        replies = await asyncio.gather(*(sender.send(i, WARM_UP_TIMEOUT_S) for i in photos))
        outcomes = {reply.outcome for reply in replies}
        if OK not in outcomes:
            raise NoAnswerError(", ".join(sorted(outcomes)))


class _Run:
    def __init__(self, sender: Sender, load: Load) -> None:
        self.sent: list[Request] = []
        self._sender, self._load = sender, load
        self._random = Random(f"{load.seed} {load}")
        self._in_flight = 0
        self._start = time.perf_counter()

    async def open_loop(self, rate: float) -> None:
        load, random = self._load, self._random
        plan = [(due, self._cancel_after_s()) for due in draw_arrivals(rate, load.seconds, random)]
        self._start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for due, cancel_after_s in plan:
                # Even if late: yields to the event loop, which receives the answers.
                await asyncio.sleep(max(0.0, due - self._now()))
                now = self._now()
                if self._in_flight >= load.max_in_flight or now > load.seconds + load.timeout_s:
                    self.sent.append(Request(due, now, now, NOT_SENT, b""))
                else:
                    self._send(group, due, cancel_after_s)

    async def closed_loop(self) -> None:
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
        self.sent.append(Request(due, sent, self._now(), reply.outcome, reply.body))
        self._in_flight -= 1

    def _now(self) -> float:
        return time.perf_counter() - self._start

    def _cancel_after_s(self) -> float | None:
        load, random = self._load, self._random
        return random.uniform(0, load.timeout_s) if random.random() < load.cancel else None
