"""How a client starts and closes, also with calls in flight."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import pytest

from alexnet_client.aio import AsyncClient
from alexnet_client.client import Client
from alexnet_client.errors import ClassifyError
from alexnet_client.fake import FakeServer
from alexnet_client.photos import Photo
from tests.service.classifier_fake import telling

pytestmark = pytest.mark.timeout(60)  # a failure here would hang

CLOSED = "CANCELLED: the client was closed"


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with telling() as fake:
        yield fake


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60
    )


def all_calls(client: Client) -> list[Callable[[], object]]:
    """A call of each public method."""
    return [
        lambda: client.classify(b"n01"),
        lambda: list(client.classify_many([b"n01"])),
        lambda: list(client.classify_many(iter([Photo("n01", lambda: b"n01")]))),
        lambda: list(client.classify_stream(iter([b"n01"]))),
        client.model,
        client.ready,
    ]


def test_an_invalid_address_is_refused() -> None:
    with pytest.raises(TypeError, match=r"such as '127\.0\.0\.1:8001', not 8001"):
        Client(8001)  # type: ignore[arg-type]
    with pytest.raises(UnicodeEncodeError):
        Client("\ud800:8001")


def test_closing_cancels_the_calls_in_flight(fake: FakeServer) -> None:
    fake.gate.clear()
    client = Client(fake.address)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.classify, b"n01")
        assert fake.waiting.wait(20)
        client.close()
        assert str(answer.exception()) == CLOSED
    client.close()


def test_every_method_of_a_closed_client_raises_cancelled(fake: FakeServer) -> None:
    with Client(fake.address) as client:
        pass
    for call in all_calls(client):
        with pytest.raises(ClassifyError, match=CLOSED):
            call()


def test_calls_during_the_closing_raise_cancelled_at_once(fake: FakeServer) -> None:
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
            for call in all_calls(client):
                with pytest.raises(ClassifyError, match=CLOSED):
                    call()
            assert closing.is_alive(), "close() waits for the photo that is being read"
        finally:
            go_on.set()
            closing.join()


def test_threads_in_a_loop_of_calls_end_with_cancelled(fake: FakeServer) -> None:
    def repeat(call: Callable[[], object]) -> None:
        while True:
            call()

    for _ in range(10):
        with ThreadPoolExecutor(12) as pool:
            with Client(fake.address) as client:
                loops = [pool.submit(repeat, call) for call in all_calls(client) * 2]
                assert client.ready()
            assert {str(loop.exception()) for loop in loops} == {CLOSED}


@pytest.mark.process
def test_a_client_in_a_forked_process_raises_an_error(fake: FakeServer) -> None:
    done = run(
        "import os, signal, warnings\n"
        "from alexnet_client.client import Client\n"
        "warnings.simplefilter('ignore')  # Python 3.12 warns of forks\n"
        f"with Client('{fake.address}') as client:\n"
        "    client.classify(b'n01')\n"
        "    with client._lock:  # another thread may hold it at the fork\n"
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


@pytest.mark.process
def test_a_client_that_is_never_closed_ends_silently(fake: FakeServer) -> None:
    done = run(
        "from alexnet_client.client import Client\n"
        f"client = Client('{fake.address}')\n"
        "answers = client.classify_stream([b'n01', b'n02'])\n"
        "print(next(answers)[1].attempts)\n"
    )
    assert (done.stdout, done.stderr, done.returncode) == ("1\n", "", 0)


async def test_every_method_of_a_closed_asyncio_client_raises_cancelled(fake: FakeServer) -> None:
    fake.gate.clear()
    async with AsyncClient(fake.address) as client:
        task = asyncio.create_task(client.classify(b"n01"))
        assert await asyncio.to_thread(fake.waiting.wait, 20)
    for awaitable in (task, client.classify(b"n01"), client.model(), client.ready()):
        with pytest.raises(ClassifyError, match=CLOSED):
            await awaitable
    for ask in (client.classify_many, client.classify_stream):
        assert [str(answer) async for _, answer in ask([b"n01"])] == [CLOSED]


async def test_cancelling_a_task_raises_cancelled_error_in_it(fake: FakeServer) -> None:
    fake.gate.clear()
    async with AsyncClient(fake.address) as client:
        task = asyncio.create_task(client.classify(b"n01"))
        assert await asyncio.to_thread(fake.waiting.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
