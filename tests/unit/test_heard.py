"""What the supervisor knows of workers: one that hangs holds up no answer."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web

from server.api.http import application
from server.api.listener import Listener
from server.workers.heard import IN_TIME_S, Heard


class Worker:
    """Answers with `text`, once `gate` is open."""

    def __init__(self, text: str):
        self.text, self.status, self.gate = text, 200, asyncio.Event()
        self.gate.set()

    async def answer(self, request: web.Request) -> web.Response:
        await self.gate.wait()
        return web.Response(status=self.status, text=self.text)


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[list[Worker]]:
    async with AsyncExitStack() as stack:
        workers = [Worker("first"), Worker("second")]
        for number, worker in enumerate(workers):
            routes = [web.get("/readyz", worker.answer)]
            listener = Listener(application(routes), private=tmp_path / f"{number}.sock")
            await listener.start("")
            stack.push_async_callback(listener.stop)
        yield workers
        for worker in workers:
            worker.gate.set()


async def test_all_that_answer_in_time_are_heard(workers: list[Worker], tmp_path: Path) -> None:
    heard = Heard(tmp_path, "/readyz")
    assert await heard.ask() == {0: "first", 1: "second"}
    workers[1].status = 503
    assert await heard.ask() == {0: "first"}


async def test_one_that_hangs_is_as_it_said_last_and_holds_up_nothing(
    workers: list[Worker], tmp_path: Path
) -> None:
    told: list[tuple[int, str]] = []
    heard = Heard(tmp_path, "/readyz", lambda worker, text, number: told.append((worker, text)))
    await heard.ask()
    workers[0].gate.clear()
    workers[0].text, workers[1].text = "late", "again"
    told.clear()
    began = time.monotonic()
    assert await heard.ask() == {0: "first", 1: "again"}
    assert time.monotonic() - began < IN_TIME_S + 0.5
    assert told == [(1, "again")]
    workers[0].gate.set()
    async with asyncio.timeout(5):
        while (0, "late") not in told:
            await asyncio.sleep(0.005)
    workers[0].gate.clear()
    assert (await heard.ask())[0] == "late", "what came too late counts for the next time"
    heard.close()


async def test_one_that_never_said_anything_is_not_known(
    workers: list[Worker], tmp_path: Path
) -> None:
    workers[0].gate.clear()
    heard = Heard(tmp_path, "/readyz")
    assert await heard.ask() == {1: "second"}
    heard.close()
