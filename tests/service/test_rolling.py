"""Two servers behind a proxy are restarted in turn, under load, and no request fails."""

import asyncio
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import aiohttp
import grpc
import pytest

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from tests.paths import ROOT
from tests.photos import jpeg
from tests.processes import ServerProcess, free_port, start_server, stop_server

pytestmark = pytest.mark.process
SERVERS = ("1", "2")
PORTS = ("18000", "18001", "28000", "28001", "8000", "8001")
"""Of the two servers and of the proxy, as the files of operators have them."""
CALLERS = 4  # of each protocol
Tell = Callable[[str], Awaitable[None]]
"""Tells the proxy which server leaves; an empty string: none does, both are ready."""


@pytest.fixture
def ports() -> dict[str, str]:
    return {name: str(free_port()) for name in PORTS}


@dataclass
class Pair:
    """The two servers, each restarted where it was."""

    bundle: str
    ports: dict[str, str]
    running: dict[str, ServerProcess] = field(default_factory=dict)

    def start(self, which: str) -> None:
        self.running[which] = start_server(
            "--model", self.bundle, "--drain-delay-s", "1", "--http-port",
            self.ports[f"{which}8000"], "--grpc-port", self.ports[f"{which}8001"],
            "--allowed-hosts", "photos.example",
        )  # fmt: skip

    def restart(self, which: str) -> None:
        assert stop_server(self.running[which])[0] == 0
        self.start(which)


@pytest.fixture
def pair(ports: dict[str, str], grey: str) -> Iterator[Pair]:
    pair = Pair(grey, ports)
    try:
        for which in SERVERS:
            pair.start(which)
        yield pair
    finally:
        for server in pair.running.values():
            server.process.kill()
            server.process.communicate()


async def test_haproxy_sees_which_server_leaves(
    pair: Pair, ports: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "haproxy.cfg"
    file.write_text(configuration("haproxy", ports).replace("inter 1s", "inter 100ms"))
    left: list[str] = []

    async def tell(leaving: str) -> None:
        """It asks by itself; what is waited for is that it knows that a new server is ready."""
        if leaving:
            left.append(leaving)
        else:
            ready = re.compile("Server rest/.* is UP")
            await until(lambda: sum(map(bool, map(ready.search, lines))) == len(left))

    with running("haproxy", "-f", file) as (_, lines):
        await rolled(pair, tell)
        await a_long_stream_is_answered(ports)


async def test_nginx_is_told_which_server_leaves(
    pair: Pair, ports: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "nginx.conf"
    # Its files are the system's otherwise.
    text = f"pid {tmp_path}/pid; error_log {tmp_path}/error.log;\n" + configuration(
        "nginx", ports
    ).replace("http {", f"http {{ access_log off; client_body_temp_path {tmp_path}/body;")
    file.write_text(text)

    async def tell(leaving: str) -> None:
        changed = text
        for port in ("8000", "8001") if leaving else ():
            changed = changed.replace(
                f":{ports[leaving + port]} ", f":{ports[leaving + port]} down "
            )
        file.write_text(changed)
        before = children(nginx)
        nginx.send_signal(signal.SIGHUP)  # nginx -s reload
        await until(lambda: not before & children(nginx))

    with running("nginx", "-g", "daemon off;", "-c", file) as (nginx, _):
        await rolled(pair, tell)
        await a_long_stream_is_answered(ports)


def configuration(name: str, ports: dict[str, str]) -> str:
    """What operators have; only the ports are those that are free here."""
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    (file,) = (ROOT / "deploy" / "proxy").glob(f"{name}.*")
    return re.sub(rf"\b({'|'.join(PORTS)})\b", lambda port: ports[port[0]], file.read_text())


@contextmanager
def running(*command: object) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The process, and the lines that it has written so far."""
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    lines: list[str] = []
    assert process.stderr is not None
    reader = Thread(target=lines.extend, args=[iter(process.stderr.readline, "")])
    reader.start()
    try:
        yield process, lines
    finally:
        process.terminate()
        reader.join()
        process.communicate(timeout=20)
        print("".join(lines))


async def until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not so():
            await asyncio.sleep(0.02)


def children(process: subprocess.Popen[str]) -> set[str]:
    return set(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())


async def rolled(pair: Pair, tell: Tell) -> None:
    seen: Counter[str] = Counter()
    async with asyncio.timeout(100), under_load(pair.ports, seen):
        for which in SERVERS:
            await tell(which)
            await asyncio.to_thread(pair.restart, which)
            await tell("")
    print(seen)
    assert seen.keys() == {"REST: answered", "gRPC: answered"}
    assert min(seen.values()) > 100


async def a_long_stream_is_answered(ports: dict[str, str]) -> None:
    """Longer in all than any one message may be."""
    photo = jpeg(64, 64) + bytes(1 << 20)
    asked = [pb.ClassifyRequest(image=photo)] * 24
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ports['8001']}") as channel:
        answers = pb_grpc.ClassifierStub(channel).ClassifyStream(iter(asked), timeout=30)
        assert len([answer async for answer in answers]) == len(asked)


@asynccontextmanager
async def under_load(ports: dict[str, str], seen: Counter[str]) -> AsyncIterator[None]:
    """Callers of both protocols, each with one request at a time; `seen` counts how they ended."""
    photo, rest = jpeg(64, 64), f"http://127.0.0.1:{ports['8000']}/v1/classify"

    # As a browser does for the server's own page, by the name that callers know.
    host = f"photos.example:{ports['8000']}"
    page = {"Host": host, "Origin": f"http://{host}"}

    async def ask_rest() -> None:
        async with session.post(rest, data=photo, headers=page) as reply:
            assert reply.status == 200, f"{reply.status} {await reply.text()}"

    async def ask_grpc() -> None:
        await stub.Classify(pb.ClassifyRequest(image=photo), timeout=10)

    async def caller(name: str, ask: Callable[[], Awaitable[None]]) -> None:
        while not stop.is_set():
            try:
                await ask()
                end = "answered"
            except (aiohttp.ClientError, grpc.aio.AioRpcError, AssertionError) as error:
                end = repr(error)
            seen[f"{name}: {end}"] += 1

    stop = asyncio.Event()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{ports['8001']}")
    # A proxy that is told anew closes connections that are kept, maybe under a request.
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
    async with channel, session, asyncio.TaskGroup() as callers:
        await asyncio.wait_for(channel.channel_ready(), 10)
        stub = pb_grpc.ClassifierStub(channel)
        for name, ask in [("REST", ask_rest), ("gRPC", ask_grpc)] * CALLERS:
            callers.create_task(caller(name, ask))
        try:
            yield
        finally:
            stop.set()
