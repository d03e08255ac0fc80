"""A worker that takes the place of another serves what the others serve."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server import ports
from server.config import Config
from server.workers import supervisor
from server.workers.peers import gather
from tests.processes import ServerProcess, start_server
from tests.scrapes import total
from tests.workers import WORKERS, Worker, metrics, served, tell, workers, workers_of

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def versions(grey: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("versions")
    shutil.copytree(grey, path / "1")
    return path


@pytest.fixture(scope="module")
def controlled(versions: Path) -> Iterator[ServerProcess]:
    """For tests that leave version 1 served, by two workers."""
    control = ("--repository-control", "local")
    running = start_server("--model", str(versions), *WORKERS, *control)
    folder = workers(running)[0].folder
    yield running
    running.process.terminate()
    running.process.communicate(timeout=30)
    shutil.rmtree(folder, ignore_errors=True)


async def replaced(server: ServerProcess, victim: Worker) -> None:
    """Kills it, and waits until another is in its place."""
    os.kill(victim.pid, signal.SIGKILL)
    async with asyncio.timeout(40):
        while victim in (crew := workers(server)) or len(crew) < 2:
            await asyncio.sleep(0.01)
        while total(await metrics(server), "alexnet_workers") < 2:
            await asyncio.sleep(0.05)


async def test_a_version_that_was_refused_does_not_stop_a_replacement(
    controlled: ServerProcess, versions: Path
) -> None:
    (versions / "2").mkdir()
    (versions / "2" / "manifest.json").write_text("{}")
    status, _ = await tell(controlled, "load")
    assert status == 400
    await replaced(controlled, workers(controlled)[0])
    shutil.rmtree(versions / "2")
    assert await served(controlled) == [{"1"}, {"1"}]


async def test_what_was_unloaded_stays_unloaded(controlled: ServerProcess) -> None:
    assert (await tell(controlled, "unload"))[0] == 200
    await replaced(controlled, workers(controlled)[1])
    assert await served(controlled) == [set(), set()]
    assert (await tell(controlled, "load"))[0] == 200
    assert await served(controlled) == [{"1"}, {"1"}]


async def test_a_server_without_workers_says_that_it_is_not_ready(
    controlled: ServerProcess,
) -> None:
    """Where no worker is left, none can say it: the alert needs a 0, not a gap."""
    for worker in (crew := workers(controlled)):
        os.kill(worker.pid, signal.SIGKILL)
    async with asyncio.timeout(5):
        while "\nalexnet_ready 0.0\n" not in await metrics(controlled):
            await asyncio.sleep(0.01)
    async with asyncio.timeout(40):
        while "\nalexnet_ready 1.0\n" not in await metrics(controlled):
            await asyncio.sleep(0.05)
        while len(workers(controlled)) < len(crew):
            await asyncio.sleep(0.05)


async def test_a_worker_that_hangs_is_killed_and_replaced(
    grey: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "PROBE_S", 0.1)
    monkeypatch.setattr(supervisor, "PATIENCE_S", 2.0)
    ended: list[int] = []
    with ports.reserved("127.0.0.1", 0, 0) as (http_port, grpc_port):
        asked = Config(model=grey, workers=2, http_port=http_port, grpc_port=grpc_port)
        crew = supervisor.Crew(asked, tmp_path, ended.append)
        await crew.start()
        try:
            (victim,) = (each for each in workers_of(os.getpid()) if each.number == 1)
            os.kill(victim.pid, signal.SIGSTOP)
            async with asyncio.timeout(40):
                while not ended or len(await gather(tmp_path, "/livez")) < 2:
                    await asyncio.sleep(0.1)
            assert ended == [1]
            assert victim.pid not in {each.pid for each in workers_of(os.getpid())}
        finally:
            await crew.stop()


def test_a_folder_with_a_server_of_its_own_does_not_become_the_worker(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text("raise SystemExit('a file of that folder was run')\n")
    command = [str(Path(sys.executable).parent / "alexnet-server"), *WORKERS]
    asked = [*command, "--model", "missing", "--http-port", "0", "--grpc-port", "0"]
    ended = subprocess.run(
        [*asked, "--metrics-port", "0"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "there is no model bundle at missing" in ended.stderr
