"""The life of a real server process: it starts or says why not, and answers what it accepted."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from alexnet import __version__
from alexnet.bundle import Bundle
from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from tests.fakes import tiny_bundle
from tests.paths import ROOT
from tests.photos import jpeg
from tests.processes import (
    FREE_PORTS,
    ServerProcess,
    ended,
    half_sent,
    refused,
    start_server,
    until_not_ready,
)
from tests.uploads import uploading

pytestmark = pytest.mark.process


@pytest.fixture
def leaving(grey: str, request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """A server that the test stops; with the flags of its parameter."""
    running = start_server("--model", grey, *request.param)
    yield running
    if running.process.poll() is None:
        running.process.kill()
    running.process.communicate(timeout=10)


@pytest.mark.parametrize("leaving", [("--drain-delay-s", "0")], indirect=True)
async def test_sigterm_answers_everything_that_was_admitted(leaving: ServerProcess) -> None:
    async with AsyncExitStack() as stack:
        uploads = await half_sent(stack, leaving, 8)
        leaving.process.terminate()
        assert await until_not_ready(leaving) == "stopping"
        async with uploading(leaving.http, jpeg()) as late:
            assert (await late.reply()).status == 503
        for upload in uploads:
            await upload.send(start=2000)
        replies = [await upload.reply() for upload in uploads]
    assert [reply.status for reply in replies] == [200] * 8
    assert all(len(reply.json["predictions"]) == 5 for reply in replies)
    code, log = await ended(leaving)
    assert code == 0
    assert "SIGTERM" in log
    assert "everything accepted was answered" in log
    assert "Traceback" not in log


@pytest.mark.parametrize("leaving", [("--drain-delay-s", "3")], indirect=True)
async def test_during_the_drain_delay_new_requests_are_served_though_not_ready(
    leaving: ServerProcess,
) -> None:
    async with (
        aiohttp.ClientSession(leaving.http) as session,
        grpc.aio.insecure_channel(leaving.grpc) as channel,
    ):
        stub = pb_grpc.ClassifierStub(channel)
        requests = [pb.ClassifyRequest(image=jpeg(seed=i)) for i in range(8)]
        leaving.process.terminate()
        assert await until_not_ready(leaving) == "leaving"
        calls = [stub.Classify(request) for request in requests]
        async with session.post("/v1/classify", data=jpeg()) as response:
            assert response.status == 200
        async with session.get("/livez") as response:
            assert response.status == 200
        health = health_pb2_grpc.HealthStub(channel)
        probe = await health.Check(health_pb2.HealthCheckRequest())
        assert probe.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert all(reply.predictions for reply in await asyncio.gather(*calls))
    code, log = await ended(leaving)
    assert code == 0
    assert "Traceback" not in log


@pytest.mark.parametrize("leaving", [("--drain-timeout-s", "0.3")], indirect=True)
async def test_a_drain_that_takes_too_long_is_given_up(leaving: ServerProcess) -> None:
    async with AsyncExitStack() as stack:
        await half_sent(stack, leaving, 1)
        leaving.process.terminate()
        code, log = await ended(leaving)
    assert code == 0
    assert "gave up on requests" in log
    assert "everything accepted was answered" not in log, "it was not"
    assert "Traceback" not in log


@pytest.mark.parametrize("leaving", [()], indirect=True)
@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(
    leaving: ServerProcess, again: signal.Signals
) -> None:
    async with AsyncExitStack() as stack:
        await half_sent(stack, leaving, 1)
        leaving.process.terminate()
        await until_not_ready(leaving)
        start = time.monotonic()
        leaving.process.send_signal(again)
        code, log = await ended(leaving)
    assert code == -again
    assert time.monotonic() - start < 5, "the drain would have taken 10 s"
    assert "Traceback" not in log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_before_it_is_ready_ends_it_at_once(starter: str, workers: str) -> None:
    """Without a cache it measures for seconds before it is."""
    flags = [text for pair in FREE_PORTS.items() for text in pair]
    asked = ["--model", starter, "--cache-dir", "", "--workers", workers, *flags]
    process = subprocess.Popen(
        [sys.executable, "-m", "server", *asked],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert "engine " in process.stderr.readline()
    process.terminate()
    printed, log = process.communicate(timeout=10)  # the log ends when all processes have
    assert (process.returncode, printed) == (0, "")
    assert "stopped before it was ready" in log
    assert "Traceback" not in log


@pytest.mark.parametrize("flag", FREE_PORTS)
def test_a_taken_port_is_one_sentence(grey: str, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        flags = [word for pair in {**FREE_PORTS, flag: port}.items() for word in pair]
        line = refused("--model", grey, *flags, log_level="error")
    assert f"cannot listen on 127.0.0.1:{port}" in line


@pytest.mark.parametrize("packed", [False, True], ids=["directory", "packed"])
def test_a_flipped_byte_in_a_bundle_is_one_sentence(tmp_path: Path, packed: bool) -> None:
    """Packed anew, or the archive's own checksum would find it first."""
    path = tmp_path / ("bundle.tar.xz" if packed else "bundle")
    bundle = tiny_bundle()
    flipped = bytearray(bundle.files["golden.npz"])
    flipped[len(flipped) // 2] ^= 1
    # Past the checks of the constructor, as the disk would do it.
    object.__setattr__(bundle, "files", {**bundle.files, "golden.npz": bytes(flipped)})
    bundle.write(path)
    line = refused("--model", str(path))
    assert f"{path}: golden.npz is damaged" in line


def test_a_file_missing_from_a_bundle_is_one_sentence(tmp_path: Path) -> None:
    tiny_bundle().write(tmp_path / "bundle")
    (tmp_path / "bundle" / "labels.tsv").unlink()
    assert "labels.tsv is missing" in refused("--model", str(tmp_path / "bundle"))


def test_a_bundle_of_a_newer_format_is_one_sentence(tmp_path: Path) -> None:
    bundle = tiny_bundle()
    newer = replace(bundle.manifest, format=2)
    Bundle(newer, bundle.files, "newer").write(tmp_path / "bundle")
    line = refused("--model", str(tmp_path / "bundle"))
    assert "format 2, this server reads format 1" in line


def test_an_artifact_that_the_runtime_cannot_load_is_one_sentence(tmp_path: Path) -> None:
    tiny_bundle().write(tmp_path / "bundle")
    line = refused("--model", str(tmp_path / "bundle"))
    assert f"{tmp_path / 'bundle'}, model.fake: " in line


@pytest.mark.parametrize("name", ["missing", "missing.tar.xz"])
def test_a_path_without_a_bundle_is_one_sentence(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    assert f"there is no model bundle at {path}" in refused("--model", path)


def test_a_file_that_is_no_bundle_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg())
    assert "cannot be read as a model bundle" in refused("--model", str(path))


def waited_s() -> float:
    """Seconds, since the machine's start, in which a thread that could run got no CPU."""
    pressure = Path("/proc/pressure/cpu")
    text = pressure.read_text() if pressure.exists() else "some total=0"
    return int(re.findall(r"some .*total=(\d+)|$", text)[0] or 0) / 1e6


def test_it_is_ready_within_ten_seconds_and_tells_what_is_served(starter: str) -> None:
    start, waited = time.monotonic(), waited_s()
    server = start_server("--engine-threads", "1", "--decode-threads", "3")
    took, waited = time.monotonic() - start, waited_s() - waited
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    worked_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # user and system
    server.process.terminate()
    server.process.communicate(timeout=20)
    assert server.process.returncode == 0
    assert worked_s < 10
    assert took - waited < 10, "what others here took of the CPUs is not the server's doing"
    manifest = Bundle.open(Path(starter)).manifest
    (artifact,) = [a for a in manifest.artifacts if a.precision == "int8"]
    rows = dict(line[2:].split(maxsplit=1) for line in server.banner.splitlines()[3:11])
    assert f"AlexNet server {__version__}" in server.banner
    assert rows["model"] == f"{manifest.model.name}, version 1 ({manifest.model.version})"
    assert rows["knows"] == manifest.model.description
    accuracy = artifact.accuracy
    assert rows["accuracy"] == "not measured" or (
        accuracy is not None and f"top-1 {accuracy.top1:.1%}" in rows["accuracy"]
    )
    assert rows["artifact"] == f"{artifact.file} on onnxruntime-cpu"
    assert rows["threads"] == "engine 1, decode 3"
