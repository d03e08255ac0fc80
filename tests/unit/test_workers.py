"""Several processes behind a port: their shares, and what one of them does for all."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from alexnet.manifest import BundleError
from server import app
from server.api.http import application
from server.api.listener import Listener
from server.api.oip import metadata
from server.api.oip.models import OipModels
from server.config import Config
from server.models.control import AllCounts, Control
from server.scheduler import cpus
from server.telemetry.counts import Counts, Timing
from server.workers import peers
from server.workers.peers import Peers, Seat, gather, hangs, served_by_others
from server.workers.supervisor import share
from tests.repositories import FakeRepository


@pytest.mark.parametrize(("available", "threads"), [(8, 2), (2, 1)])
def test_a_worker_gets_its_share_of_the_limits_and_of_the_cpus(
    monkeypatch: pytest.MonkeyPatch, available: int, threads: int
) -> None:
    monkeypatch.setattr(cpus, "available", lambda: available)
    config = Config(workers=3, max_queue_size=256, max_photo_bytes=1000)
    expected = Config(
        workers=3, max_queue_size=86, max_photo_bytes=334,
        engine_threads=threads, decode_threads=threads,
    )  # fmt: skip
    assert share(config) == expected


def test_limits_below_the_number_of_workers_leave_each_some() -> None:
    part = share(Config(workers=3, max_queue_size=1, max_photo_bytes=2))
    assert (part.max_queue_size, part.max_photo_bytes) == (1, 1)


def test_threads_that_the_operator_named_are_for_each_worker() -> None:
    part = share(Config(workers=4, engine_threads=3, decode_threads=5))
    assert (part.engine_threads, part.decode_threads) == (3, 5)


TIMING = Timing(
    upload=0.001,
    decode_queue=0.0005,
    decode=0.004,
    batch_queue=0.0005,
    infer=0.015,
    total=0.021,
    batch_size=1,
)


def counted(photos: int, last_ms: int, **runs: int) -> Counts:
    """Requests of one photo, and runs of the engine: `of_4=2` is two of four photos."""
    counts = Counts()
    for _ in range(photos):
        counts.answered([TIMING], 0.025)
    for name, count in runs.items():
        for _ in range(count):
            counts.executed(int(name.removeprefix("of_")), 0.5)
    counts.last_ms = last_ms
    return counts


class Crew:
    """Workers on their sockets, whose repositories the test can break."""

    def __init__(self, folder: Path, stack: AsyncExitStack):
        self.folder, self._stack = folder, stack
        self.repositories: dict[int, FakeRepository] = {}
        unasked: Any = None  # a worker asks itself on its socket, as it asks the others
        self.peers = Peers(unasked, {}, Seat(folder, 0))

    async def listen(
        self, number: int, *routes: web.RouteDef, counts: AllCounts | None = None
    ) -> None:
        """With routes that take the place of a worker's, where there are any."""
        repository: Any = FakeRepository()
        self.repositories[number] = repository
        seat = Seat(self.folder, number)
        control = Control(repository, counts or {})
        routes = routes or tuple(peers.routes(control, seat, repository.reload))
        listener = Listener(application(routes), private=self.folder / f"{number}.sock")
        await listener.start("")
        self._stack.push_async_callback(listener.stop)

    def leave_a_socket(self, number: int) -> None:
        """As a worker does that was killed."""
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(self.folder / f"{number}.sock"))

    @property
    def calls(self) -> dict[int, list[str]]:
        return {number: each.calls for number, each in self.repositories.items()}


def saying(text: str, status: int = 200) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    return answer


@pytest.fixture
async def crew(tmp_path: Path) -> AsyncIterator[Crew]:
    async with AsyncExitStack() as stack:
        yield Crew(tmp_path, stack)


async def test_every_worker_is_told_to_load_and_to_unload(crew: Crew) -> None:
    for number in (0, 1, 2):
        await crew.listen(number)
    await crew.peers.load()
    assert crew.calls == {number: ["load"] for number in (0, 1, 2)}
    await crew.peers.unload()
    assert crew.calls == {number: ["load", "unload"] for number in (0, 1, 2)}


async def test_a_version_that_one_worker_refuses_is_not_tried_by_the_next(crew: Crew) -> None:
    """In the order of their numbers: 2 comes before 10."""
    for number in (0, 2, 10):
        await crew.listen(number)
    crew.repositories[2].broken = "version 7 is damaged"
    with pytest.raises(BundleError, match=r"^version 7 is damaged$"):
        await crew.peers.load()
    assert crew.calls == {0: ["load"], 2: [], 10: []}


async def test_workers_load_one_after_the_other(crew: Crew) -> None:
    seen: list[list[str]] = []

    async def slow(request: web.Request) -> web.Response:
        for _ in range(3):  # a worker asked at the same time would have been told meanwhile
            await gather(crew.folder, "/readyz")
        seen.append(list(crew.calls[1]))
        return web.Response()

    await crew.listen(0, web.post("/load", slow))
    await crew.listen(1)
    await crew.peers.load()
    assert seen == [[]]
    assert crew.calls[1] == ["load"]


async def test_a_worker_that_is_not_there_is_passed_over(
    crew: Crew, caplog: pytest.LogCaptureFixture
) -> None:
    async def die(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    crew.leave_a_socket(0)
    await crew.listen(1, web.post("/load", die))
    await crew.listen(2)
    await crew.peers.load()
    assert crew.calls[2] == ["load"]
    warned = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert warned == [f"worker {number} was not there for /load" for number in (0, 1)]


async def test_a_worker_that_starts_while_the_others_are_told_is_told_too(crew: Crew) -> None:
    async def load(request: web.Request) -> web.Response:
        await crew.listen(0)
        return web.Response()

    crew.leave_a_socket(0)
    await crew.listen(1, web.post("/load", load))
    await crew.peers.load()
    assert crew.calls == {0: ["load"], 1: []}


async def test_a_new_worker_asks_another_than_itself_what_to_serve(crew: Crew) -> None:
    seat = Seat(crew.folder, 0)
    assert await served_by_others(seat) is None
    await crew.listen(0, web.get("/served", saying('["1"]')))
    assert await served_by_others(seat) is None
    await crew.listen(1, web.get("/served", saying('["1", "2"]')))
    assert await served_by_others(seat) == ["1", "2"]


async def test_a_worker_that_cannot_catch_up_goes_on_with_what_it_serves(
    crew: Crew, caplog: pytest.LogCaptureFixture
) -> None:
    mine: Any = FakeRepository()
    await app._catch_up(mine, Seat(crew.folder, 0))
    assert mine.calls == [], "there is no other to catch up with"
    await crew.listen(1, web.get("/served", saying('["2"]')))
    mine.broken = "version 2 is damaged"
    await app._catch_up(mine, Seat(crew.folder, 0))
    assert "what the others serve is not served here: version 2 is damaged" in caplog.text


async def test_a_worker_that_says_nothing_hangs_and_one_that_is_not_there_does_not(
    crew: Crew,
) -> None:
    gate = asyncio.Event()

    async def silent(request: web.Request) -> web.Response:
        await gate.wait()
        return web.Response()

    await crew.listen(0, web.get("/counts", silent))
    await crew.listen(1, web.get("/counts", saying("stopping", status=503)))
    crew.leave_a_socket(2)
    assert [await hangs(Seat(crew.folder, number), 0.2) for number in range(4)] == [
        True, False, False, False,
    ]  # fmt: skip
    gate.set()


async def test_an_answer_that_makes_no_sense_is_not_taken_for_success(crew: Crew) -> None:
    await crew.listen(0, web.post("/load", saying("what?", status=500)))
    with pytest.raises(RuntimeError, match="worker 0 answered 500 to /load"):
        await crew.peers.load()


async def test_only_the_answers_of_workers_that_are_well_are_gathered(crew: Crew) -> None:
    crew.leave_a_socket(0)
    await crew.listen(1, web.get("/readyz", saying("leaving", status=503)))
    await crew.listen(2, web.get("/readyz", saying("serving")))
    assert await gather(crew.folder, "/readyz") == [(2, "serving")]


async def test_counts_are_those_of_all_workers_that_answer(crew: Crew) -> None:
    one, other = counted(2, 1000, of_1=2, of_4=1), counted(3, 900, of_2=1, of_4=2)
    one.failed("REJECTED", 0.5)
    await crew.listen(0, counts={("m", "1"): one})
    await crew.listen(1, counts={("m", "1"): other, ("m", "2"): counted(8, 800)})
    crew.leave_a_socket(2)
    together = await crew.peers.counts()
    assert together == {("m", "1"): one + other, ("m", "2"): counted(8, 800)}


async def test_counts_of_a_worker_that_died_or_hangs_are_as_it_last_told(crew: Crew) -> None:
    first, second = counted(2, 1000), counted(3, 900)
    died = Seat(crew.folder, 0)
    repository: Any = FakeRepository()
    routes = peers.routes(Control(repository, {("m", "1"): first}), died, repository.reload)
    listener = Listener(application(routes), private=died.socket)
    await listener.start("")
    await crew.listen(1, counts={("m", "1"): second})
    before = await crew.peers.counts()
    await listener.stop()
    assert await crew.peers.counts() == before == {("m", "1"): first + second}
    await crew.listen(0, counts={("m", "1"): counted(1, 800)})  # another in its place
    assert (await crew.peers.counts())[("m", "1")].photos == 6


async def test_statistics_of_two_workers_add_up(crew: Crew) -> None:
    one, other = counted(2, 1000, of_1=2, of_4=1), counted(3, 900, of_2=1, of_4=2)
    one.failed("REJECTED", 0.5)
    for number, each in enumerate((one, other)):
        await crew.listen(number, counts={("m", "1"): each})
    (row, _) = await statistics(crew, "1")
    assert (row["name"], row["version"], row["last_inference"]) == ("m", "1", 1000)
    assert (row["inference_count"], row["execution_count"]) == (5, 6)
    stats = row["inference_stats"]
    assert stats["success"] == {"count": 5, "ns": 5 * 25_000_000}
    assert stats["queue"] == {"count": 5, "ns": 5 * 1_000_000}
    assert stats["compute_infer"] == {"count": 5, "ns": 5 * 15_000_000}
    assert stats["fail"] == {"count": 1, "ns": 500_000_000}
    assert [
        (each["batch_size"], each["compute_infer"]["count"], each["compute_infer"]["ns"])
        for each in row["batch_stats"]
    ] == [(1, 2, 10**9), (2, 1, 5 * 10**8), (4, 3, 15 * 10**8)]


async def test_statistics_have_what_the_worker_serves_only(crew: Crew) -> None:
    """Another may serve other versions for a moment."""
    await crew.listen(0, counts={("m", "1"): counted(2, 1000), ("m", "2"): counted(1, 1000)})
    await crew.listen(1, counts={("m", "2"): counted(4, 1000), ("m", "3"): counted(8, 1000)})
    rows = await statistics(crew, "1", "2")
    assert [(r["name"], r["version"], r["inference_count"]) for r in rows] == [
        ("m", "1", 2), ("m_pixels", "1", 0), ("m", "2", 5), ("m_pixels", "2", 0),
    ]  # fmt: skip


async def statistics(crew: Crew, *versions: str) -> list[dict[str, Any]]:
    """As a worker says them that serves these versions of m."""
    served = [SimpleNamespace(number=version) for version in versions]
    service: Any = SimpleNamespace(repository=SimpleNamespace(name="m", served=served))
    counts = await crew.peers.counts()
    rows: list[dict[str, Any]] = metadata.statistics(OipModels(service), "", "", counts)[
        "model_stats"
    ]
    return rows
