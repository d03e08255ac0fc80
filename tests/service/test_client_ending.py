"""How a client begins and ends, whoever is still asking."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import pytest

from clients.aio import AsyncClient
from clients.client import Client
from clients.errors import ClassifyError
from clients.fake import FakeServer
from clients.photos import Photo
from tests.service.classifier_fake import telling

pytestmark = pytest.mark.timeout(60)  # what is wrong here waits for ever

CLOSED = "CANCELLED: the client was closed"


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with telling() as fake:
        yield fake


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60
    )


def everything(client: Client) -> list[Callable[[], object]]:
    """All that one can ask."""
    return [
        lambda: client.classify(b"n01"),
        lambda: list(client.classify_many([b"n01"])),
        lambda: list(client.classify_many(iter([Photo("n01", lambda: b"n01")]))),
        lambda: list(client.classify_stream(iter([b"n01"]))),
        client.model,
        client.ready,
    ]


def test_an_address_that_is_none_is_said() -> None:
    with pytest.raises(TypeError, match=r"such as '127\.0\.0\.1:8001', not 8001"):
        Client(8001)  # type: ignore[arg-type]
    with pytest.raises(UnicodeEncodeError):
        Client("\ud800:8001")


def test_closing_ends_what_is_in_flight(fake: FakeServer) -> None:
    fake.gate.clear()
    client = Client(fake.address)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.classify, b"n01")
        assert fake.waiting.wait(20)
        client.close()
        assert str(asked.exception()) == CLOSED
    client.close()


def test_a_closed_client_says_so_to_all(fake: FakeServer) -> None:
    with Client(fake.address) as client:
        pass
    for ask in everything(client):
        with pytest.raises(ClassifyError, match=CLOSED):
            ask()


def test_who_asks_while_it_closes_is_told_the_same_at_once(fake: FakeServer) -> None:
    reading, go_on = Event(), Event()

    def read() -> bytes:
        reading.set()
        assert go_on.wait(50)
        return b"n01"

    client = Client(fake.address)
    closing = Thread(target=client.close)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: list(client.classify_many([Photo("slow", read)])))
        assert reading.wait(20)
        closing.start()
        try:
            assert str(first.exception()) == CLOSED
            for ask in everything(client):
                with pytest.raises(ClassifyError, match=CLOSED):
                    ask()
            assert closing.is_alive(), "it waits for the photo that is being read"
        finally:
            go_on.set()
            closing.join()


def test_threads_that_ask_until_it_is_closed_learn_just_that(fake: FakeServer) -> None:
    def ask_on(ask: Callable[[], object]) -> None:
        while True:
            ask()

    for _ in range(10):
        with ThreadPoolExecutor(12) as pool:
            with Client(fake.address) as client:
                asked = [pool.submit(ask_on, ask) for ask in everything(client) * 2]
                assert client.ready()
            assert {str(one.exception()) for one in asked} == {CLOSED}


def test_a_forked_process_is_told_that_it_has_no_client(fake: FakeServer) -> None:
    done = run(
        "import os, signal, warnings\n"
        "from clients.client import Client\n"
        "warnings.simplefilter('ignore')  # of Python 3.12, of this fork\n"
        f"with Client('{fake.address}') as client:\n"
        "    client.classify(b'n01')\n"
        "    with client._lock:  # as another thread may at that moment\n"
        "        child = os.fork()\n"
        "        if not child:\n"
        "            signal.alarm(20)\n"
        "            try:\n"
        "                client.classify(b'n01')\n"
        "            except RuntimeError as error:\n"
        "                print(error, flush=True)\n"
        "            client.close()\n"
        "            os._exit(0)\n"
        "    print(os.waitpid(child, 0)[1], client.classify(b'n01').attempts)\n"
    )
    assert (
        done.stdout == "neither client nor gRPC work in a forked process: spawn it instead\n0 1\n"
    )


def test_who_forgets_to_close_gets_no_complaint(fake: FakeServer) -> None:
    done = run(
        "from clients.client import Client\n"
        f"client = Client('{fake.address}')\n"
        "answers = client.classify_stream([b'n01', b'n02'])\n"
        "print(next(answers)[1].attempts)\n"
    )
    assert (done.stdout, done.stderr, done.returncode) == ("1\n", "", 0)


async def test_with_asyncio_a_closed_client_says_the_same(fake: FakeServer) -> None:
    fake.gate.clear()
    async with AsyncClient(fake.address) as client:
        asked = asyncio.create_task(client.classify(b"n01"))
        assert await asyncio.to_thread(fake.waiting.wait, 20)
    for awaitable in (asked, client.classify(b"n01"), client.model(), client.ready()):
        with pytest.raises(ClassifyError, match=CLOSED):
            await awaitable
    for ask in (client.classify_many, client.classify_stream):
        assert [str(answer) async for _, answer in ask([b"n01"])] == [CLOSED]


async def test_a_task_that_is_cancelled_is_cancelled(fake: FakeServer) -> None:
    fake.gate.clear()
    async with AsyncClient(fake.address) as client:
        asked = asyncio.create_task(client.classify(b"n01"))
        assert await asyncio.to_thread(fake.waiting.wait, 20)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
