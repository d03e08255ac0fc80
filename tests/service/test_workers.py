"""Two real processes behind the same ports, which answer as one server."""

import os
import shutil
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from alexnet.bundle import Bundle, sha256
from alexnet.golden import Golden
from protos import oip_pb2, oip_pb2_grpc
from tests.processes import FREE_PORTS, ServerProcess, refused, start_server, stop_server
from tests.scrapes import total
from tests.workers import (
    CONNECTIONS,
    WORKERS,
    Worker,
    channels,
    metrics,
    over_grpc,
    over_rest,
    served,
    tell,
    workers,
)

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def pair(grey: str) -> Iterator[ServerProcess]:
    """For all tests that only ask."""
    running = start_server("--model", grey, *WORKERS)
    yield running
    code, log = stop_server(running)
    assert code == 0, log
    assert "Traceback" not in log, log


@pytest.mark.parametrize(("face", "ask"), [("rest", over_rest), ("grpc", over_grpc)])
async def test_every_worker_answers_and_the_metrics_add_up(
    pair: ServerProcess, face: str, ask: Callable[[ServerProcess], Awaitable[None]]
) -> None:
    async def counts(of: ServerProcess | Worker) -> tuple[float, ...]:
        text = await metrics(of)
        return (
            total(text, "alexnet_requests_total", face=face, outcome="ok", version="1"),
            total(text, "alexnet_requests_total"),
            total(text, "alexnet_request_duration_seconds_count", stage="total"),
            total(text, "nv_inference_request_success", model="alexnet"),
            total(text, "alexnet_batch_size_sum"),
        )

    asked: list[ServerProcess | Worker] = [pair, *workers(pair)]
    assert len(asked) == 3
    before = [await counts(each) for each in asked]
    await ask(pair)
    after = [await counts(each) for each in asked]
    together, first, second = (
        tuple(np.subtract(new, old)) for new, old in zip(after, before, strict=True)
    )
    assert together == (2 * CONNECTIONS,) * 5
    assert tuple(np.add(first, second)) == together
    assert min(first[0], second[0]) > 0, "one worker answered everything"


async def test_statistics_are_the_same_whichever_worker_is_asked(pair: ServerProcess) -> None:
    await over_rest(pair)
    text = await metrics(pair)
    photos = int(total(text, "nv_inference_count", model="alexnet"))
    assert photos > max([total(await metrics(w), "nv_inference_count") for w in workers(pair)])
    expected = [("alexnet", photos, photos), ("alexnet_pixels", 0, 0)]
    for path in ("/v2/models/stats", "/v2/models/alexnet/stats") * (CONNECTIONS // 2):
        async with aiohttp.ClientSession(pair.http) as session, session.get(path) as response:
            rows = (await response.json())["model_stats"]
        assert [
            (row["name"], row["inference_count"], row["inference_stats"]["success"]["count"])
            for row in rows
        ] == expected[: len(rows)]
        assert len(rows) == (1 if "alexnet" in path else 2)
    async with AsyncExitStack() as stack:
        for channel in await channels(stack, pair):
            stub = oip_pb2_grpc.GRPCInferenceServiceStub(channel)
            answer = await stub.ModelStatistics(oip_pb2.ModelStatisticsRequest())
            assert [
                (row.name, row.inference_count, row.inference_stats.success.count)
                for row in answer.model_stats
            ] == expected


async def test_the_metrics_port_has_the_probes_of_all(pair: ServerProcess) -> None:
    async with aiohttp.ClientSession(pair.metrics) as session:
        async with session.get("/readyz") as response:
            assert (response.status, await response.json()) == (200, {"ready": True, "workers": 2})
        async with session.get("/livez") as response:
            assert (response.status, await response.json()) == (200, {"live": True})
        openmetrics = {"accept": "application/openmetrics-text; version=1.0.0"}
        async with session.get("/metrics", headers=openmetrics) as response:
            assert response.content_type == "application/openmetrics-text"
            assert (await response.text()).endswith("# EOF\n")
    text = await metrics(pair)
    assert total(text, "alexnet_workers") == 2
    assert total(text, "alexnet_workers_ended_total") == 0
    assert total(text, "alexnet_ready") == 1
    assert total(text, "alexnet_model_info") == 1


async def test_a_worker_that_hangs_holds_up_neither_probes_nor_metrics(pair: ServerProcess) -> None:
    await over_rest(pair)
    before = total(await metrics(pair), "alexnet_requests_total")
    hung = workers(pair)[0].pid
    os.kill(hung, signal.SIGSTOP)
    try:
        async with aiohttp.ClientSession(pair.metrics) as session:
            times = []
            for path in ("/readyz", "/metrics") * 3:
                began = time.monotonic()
                async with session.get(path) as response:
                    assert response.status == 200
                    text = await response.text()
                times.append(time.monotonic() - began)
                if path == "/metrics":
                    # On a busy machine the first may have been what was known a moment before.
                    assert total(text, "alexnet_requests_total") >= before
        # The quickest of each is the server's own; this machine may be busy with other tests.
        assert max(min(times[::2]), min(times[1::2])) < 0.1, times
    finally:
        os.kill(hung, signal.SIGCONT)


def test_the_banner_is_that_of_one_server(pair: ServerProcess) -> None:
    assert pair.banner.count("AlexNet server") == 1
    assert "in each of 2 workers" in pair.banner


@pytest.mark.parametrize("flag", FREE_PORTS)
@pytest.mark.parametrize("by", ["another", "workers"])
def test_a_taken_port_is_one_sentence(pair: ServerProcess, grey: str, flag: str, by: str) -> None:
    ports = dict(zip(FREE_PORTS, (pair.http, pair.grpc, pair.metrics), strict=True))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1]) if by != "workers" else ports[flag].rpartition(":")[2]
        flags = [word for each in {**FREE_PORTS, flag: port}.items() for word in each]
        line = refused("--model", grey, *WORKERS, *flags, log_level="error")
    assert f"cannot listen on 127.0.0.1:{port}" in line


@pytest.fixture(scope="module")
def versions(grey: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with version 1 in it."""
    path = tmp_path_factory.mktemp("versions")
    shutil.copytree(grey, path / "1", copy_function=os.link)
    return path


@pytest.fixture(scope="module")
def controlled(versions: Path) -> Iterator[ServerProcess]:
    """For tests that leave the highest version of the folder served."""
    control = ("--repository-control", "local")
    running = start_server("--model", str(versions), *WORKERS, *control)
    yield running
    code, log = stop_server(running)
    assert code == 0, log
    assert "Traceback" not in log, log


async def test_a_new_version_is_served_by_every_worker(
    controlled: ServerProcess, versions: Path
) -> None:
    before = max(int(path.name) for path in versions.iterdir())
    assert await served(controlled) == [{str(before)}] * 2
    shutil.copytree(versions / "1", versions / str(before + 1), copy_function=os.link)
    assert await tell(controlled, "load") == (200, "{}")
    assert await served(controlled) == [{str(before + 1)}] * 2


async def test_a_version_that_cannot_be_proven_is_refused_for_all(
    controlled: ServerProcess, versions: Path
) -> None:
    before = await served(controlled)
    bundle = Bundle.open(versions / "1")
    golden = Golden(bundle.golden.crops, np.roll(bundle.golden.logits, 1, axis=1)).to_bytes()
    entry = replace(bundle.manifest.golden, sha256=sha256(golden))
    manifest = replace(bundle.manifest, golden=entry)
    bad = versions / "1000"
    Bundle(manifest, {**bundle.files, entry.file: golden}, "bad").write(bad)
    try:
        status, text = await tell(controlled, "load")
    finally:
        shutil.rmtree(bad)
    assert status == 400
    assert "failed to load 'alexnet': " in text
    assert "differ from the trained network's" in text
    assert len(before) == 2
    assert await served(controlled) == before


async def test_unloading_is_for_every_worker(controlled: ServerProcess) -> None:
    before = await served(controlled)
    assert await tell(controlled, "unload") == (200, "{}")
    assert await served(controlled) == [set(), set()]
    async with (
        aiohttp.ClientSession(controlled.metrics) as session,
        session.get("/readyz") as response,
    ):
        assert (response.status, await response.json()) == (503, {"ready": False, "workers": 0})
    assert await tell(controlled, "load") == (200, "{}")
    assert await served(controlled) == before
