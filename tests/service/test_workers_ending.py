"""One of several processes ends, or all: what is with another loses nothing."""

import asyncio
import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from tests.processes import ServerProcess, ended, half_sent, refused, start_server
from tests.scrapes import total
from tests.workers import CONNECTIONS as NEW_CONNECTIONS
from tests.workers import PHOTO, WORKERS, Worker, metrics, over_rest, workers

pytestmark = pytest.mark.process

CONNECTIONS = 16


@pytest.fixture
def leaving(grey: str) -> Iterator[ServerProcess]:
    """Two workers that the test stops."""
    running = start_server("--model", grey, *WORKERS, "--log-format", "json")
    folder = workers(running)[0].folder
    yield running
    if running.process.poll() is None:
        running.process.kill()
    running.process.communicate(timeout=20)  # their log ends when all workers have
    shutil.rmtree(folder, ignore_errors=True)


def said(log: str) -> Counter[tuple[str, str]]:
    """How often which process said what; every line has to be JSON."""
    entries = [json.loads(line) for line in log.splitlines()]
    return Counter((entry.get("process", ""), entry["message"]) for entry in entries)


@dataclass
class Caller:
    """Asks over a connection that it keeps, and connects anew when that is lost."""

    session: aiohttp.ClientSession
    answered: int = 0
    lost: list[float] = field(default_factory=list)
    """When each request without an answer was sent."""

    async def ask(self) -> None:
        start = time.monotonic()
        try:
            async with self.session.post("/v1/classify", data=PHOTO) as response:
                assert response.status == 200, await response.text()
                await response.read()
                self.answered += 1
        except aiohttp.ClientError:
            self.lost.append(start)

    async def ask_until(self, done: asyncio.Event) -> None:
        while not done.is_set():
            await self.ask()


async def count(of: ServerProcess | Worker) -> float:
    return total(await metrics(of), "alexnet_requests_total")


async def calling(stack: AsyncExitStack, url: str, worker: Worker) -> tuple[list[Caller], set[int]]:
    """Callers that are connected, and which of them are with this worker."""
    callers, with_worker = [], set()
    for i in range(CONNECTIONS):
        connector = aiohttp.TCPConnector(limit=1)
        session = aiohttp.ClientSession(url, connector=connector)
        callers.append(Caller(await stack.enter_async_context(session)))
        before = await count(worker)
        await callers[i].ask()
        if await count(worker) > before:
            with_worker.add(i)
    return callers, with_worker


async def more_from_each(callers: list[Caller], answers: int) -> None:
    enough = [caller.answered + answers for caller in callers]
    async with asyncio.timeout(30):
        while any(c.answered < n for c, n in zip(callers, enough, strict=True)):
            await asyncio.sleep(0.01)


async def inferences(server: ServerProcess) -> int:
    """By the statistics over REST."""
    async with (
        aiohttp.ClientSession(server.http) as session,
        session.get("/v2/models/alexnet/stats") as response,
    ):
        (row,) = (await response.json())["model_stats"]
        return int(row["inference_count"])


async def until_whole(server: ServerProcess) -> tuple[list[float], list[int]]:
    """How many requests were counted, and photos by the statistics, whenever asked until there are
    two workers again."""
    counts, photos = [], []
    async with asyncio.timeout(40):
        while True:
            text = await metrics(server)
            counts.append(total(text, "alexnet_requests_total"))
            photos.append(await inferences(server))
            gone, alive = total(text, "alexnet_workers_ended_total"), total(text, "alexnet_workers")
            if (gone, alive) == (1, 2):
                return counts, photos
            await asyncio.sleep(0.05)


async def until_not_ready(server: ServerProcess) -> None:
    """Until no worker is."""
    async with asyncio.timeout(10), aiohttp.ClientSession(server.metrics) as session:
        while True:
            async with session.get("/readyz") as response:
                if response.status == 503:
                    return
            await asyncio.sleep(0.01)


async def test_a_worker_that_is_killed_takes_only_its_own_connections_along(
    leaving: ServerProcess,
) -> None:
    victim, survivor = workers(leaving)
    async with AsyncExitStack() as stack:
        callers, with_victim = await calling(stack, leaving.http, victim)
        assert 0 < len(with_victim) < CONNECTIONS
        done = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for caller in callers:
                tasks.create_task(caller.ask_until(done))
            await more_from_each(callers, 3)
            assert not any(caller.lost for caller in callers)
            before, counted = await count(leaving), await inferences(leaving)
            os.kill(victim.pid, signal.SIGKILL)
            async with asyncio.timeout(5):
                while Path(f"/proc/{victim.pid}").exists():
                    await asyncio.sleep(0.001)
            for _ in range(3):  # passes of the loop, in which its connections are seen to end
                await asyncio.sleep(0)
            gone, so_far = time.monotonic(), sum(caller.answered for caller in callers)
            await more_from_each(callers, 3)
            done.set()
        counts, photos = await until_whole(leaving)
        assert counts == sorted(counts), "a counter fell"
        assert photos == sorted(photos), "a statistic fell"
        assert photos[0] >= counted, "what was told once is gone"
        answered = sum(caller.answered for caller in callers) - so_far
        assert counts[0] >= before + answered, "what the worker counted is gone"
        assert {i for i, caller in enumerate(callers) if caller.lost} <= with_victim
        assert any(caller.lost for caller in callers), "the kill came when nothing was asked"
        assert all(sent < gone for caller in callers for sent in caller.lost)
    fresh, same = workers(leaving)
    assert (fresh.number, same) == (victim.number, survivor)
    assert fresh.pid != victim.pid
    await over_rest(leaving)
    assert await count(fresh) > 0
    assert await count(leaving) == counts[-1] + 2 * NEW_CONNECTIONS
    leaving.process.terminate()
    code, log = await ended(leaving)
    assert code == 0, log
    lines = said(log)
    assert lines["", "worker 0 ended by itself, by SIGKILL; another takes its place in 1 s"] == 1
    assert lines["", "worker 0 is ready again"] == 1


async def test_sigterm_answers_everything_that_any_worker_admitted(leaving: ServerProcess) -> None:
    crew = workers(leaving)
    async with AsyncExitStack() as stack:
        uploads = await half_sent(stack, leaving, CONNECTIONS)
        held = [total(await metrics(each), "alexnet_requests_in_flight") for each in crew]
        assert min(held) > 0
        leaving.process.terminate()
        await until_not_ready(leaving)
        for upload in uploads:
            await upload.send(start=2000)
        replies = [await upload.reply() for upload in uploads]
    assert [reply.status for reply in replies] == [200] * CONNECTIONS
    assert all(len(reply.json["predictions"]) == 5 for reply in replies)
    assert leaving.process.stdout is not None
    printed = await asyncio.to_thread(leaving.process.stdout.read)
    code, log = await ended(leaving)
    assert code == 0, log
    assert not printed.strip(), "one banner is enough"
    assert not [each.pid for each in crew if Path(f"/proc/{each.pid}").exists()]
    assert not crew[0].folder.exists()
    lines = said(log)
    for process in ("worker 0", "worker 1"):
        assert lines[process, "everything accepted was answered"] == 1
        assert lines[process, "stopped"] == 1
    assert lines["", "ready"] == lines["", "stopped"] == 1
    assert "by itself" not in log


async def test_workers_whose_supervisor_is_killed_finish_what_they_accepted_and_end(
    leaving: ServerProcess,
) -> None:
    async with AsyncExitStack() as stack:
        uploads = await half_sent(stack, leaving, CONNECTIONS)
        leaving.process.kill()
        leaving.process.wait()
        for upload in uploads:
            await upload.send(start=2000)
        replies = [await upload.reply() for upload in uploads]
    assert [reply.status for reply in replies] == [200] * CONNECTIONS
    code, log = await ended(leaving)  # of the last that could write to it
    assert code == -signal.SIGKILL
    lines = said(log)
    assert lines["worker 0", "stopped"] == lines["worker 1", "stopped"] == 1


async def test_a_second_signal_ends_them_all_at_once(leaving: ServerProcess) -> None:
    async with AsyncExitStack() as stack:
        await half_sent(stack, leaving, 1)
        leaving.process.terminate()
        await until_not_ready(leaving)
        start = time.monotonic()
        leaving.process.terminate()
        code, _ = await ended(leaving)
    assert code == -signal.SIGTERM
    assert time.monotonic() - start < 5, "the drain would have taken 10 s"


def test_a_model_that_does_not_exist_is_one_sentence_of_one_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was left would hold the log open, and time out."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    line = refused("--model", str(tmp_path / "missing"), *WORKERS)
    assert f"there is no model bundle at {tmp_path / 'missing'}" in line
    assert not list(tmp_path.iterdir())
