"""Real servers in processes of their own: to start, to ask, and to see end."""

import asyncio
import re
import socket
import subprocess
import sys
import threading
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp
import pytest

from tests.paths import ROOT, STARTER
from tests.photos import jpeg
from tests.uploads import Upload, uploading

FREE_PORTS = {"--http-port": "0", "--grpc-port": "0", "--metrics-port": "0"}


@dataclass(frozen=True)
class ServerProcess:
    """A real `alexnet-server` on free ports."""

    process: subprocess.Popen[str]
    banner: str

    @property
    def http(self) -> str:
        return self._found(r"REST +(https?://\S+)")

    @property
    def grpc(self) -> str:
        return self._found(r"gRPC +(\S+)")

    @property
    def metrics(self) -> str:
        return self._found(r"metrics +(https?://\S+)/metrics")

    def _found(self, pattern: str) -> str:
        match = re.search(pattern, self.banner)
        assert match is not None, self.banner
        return match[1]


def start_server(*flags: str, timeout_s: float = 60.0) -> ServerProcess:
    """Starts the server and waits for its banner, which it prints when it is ready."""
    ports = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")
    process = subprocess.Popen(
        [sys.executable, "-m", "server", "--model", str(STARTER), *ports, *flags],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    return ServerProcess(process, banner_of(process, timeout_s))


def banner_of(process: subprocess.Popen[str], timeout_s: float = 60.0) -> str:
    """What a server prints when it is ready, which is waited for."""
    assert process.stdout is not None
    too_late = threading.Timer(timeout_s, process.kill)
    too_late.start()
    banner = ""
    for line in process.stdout:
        banner += line
        if "curl" in line:
            break
    too_late.cancel()
    if "curl" not in banner:
        error = process.communicate()[1]
        pytest.fail(f"it ended with {process.returncode} and no banner: {error}")
    return banner


def stop_server(server: ServerProcess) -> tuple[int, str]:
    """Exit code and log after SIGTERM."""
    server.process.terminate()
    try:
        _, log = server.process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        server.process.kill()
        raise
    return server.process.returncode, log


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


async def until_in_flight(server: ServerProcess, count: int) -> None:
    line = f"alexnet_requests_in_flight {float(count)}\n"
    async with asyncio.timeout(10), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{server.metrics}/metrics") as response:
                if line in await response.text():
                    return
            await asyncio.sleep(0.01)


async def until_not_ready(server: ServerProcess) -> str:
    """Waits for it, and gives the state that the readiness probe then reports."""
    async with asyncio.timeout(10), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{server.http}/readyz") as response:
                if response.status == 503:
                    return str((await response.json())["state"])
            await asyncio.sleep(0.01)


async def half_sent(stack: AsyncExitStack, server: ServerProcess, count: int) -> list[Upload]:
    """Uploads under way: admitted, and waiting for the second half of their photo."""
    uploads = [
        await stack.enter_async_context(uploading(server.http, jpeg(seed=i))) for i in range(count)
    ]
    for upload in uploads:
        await upload.send(stop=2000)
    await until_in_flight(server, count)
    return uploads


async def ended(server: ServerProcess) -> tuple[int, str]:
    _, log = await asyncio.to_thread(server.process.communicate, timeout=20)
    return server.process.returncode, log


def refused(*flags: str, log_level: str = "info") -> str:
    """The error of a server that cannot serve: exit code 1, one line, and nothing on stdout."""
    run = subprocess.run(
        [sys.executable, "-m", "server", "--log-level", log_level, *flags],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert run.returncode == 1, run.stderr
    assert run.stdout == ""
    assert "Traceback" not in run.stderr
    (line,) = [s for s in run.stderr.splitlines() if not re.match(r"\S+ INFO ", s)]
    assert line.startswith("alexnet-server: ")
    return line
