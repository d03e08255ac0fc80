"""Versions in a real server: exchanged under load, shared out, and refused when they are bad."""

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from alexnet.bundle import Bundle, sha256
from alexnet.golden import Golden
from tests.photos import jpeg
from tests.processes import ServerProcess, start_server, stop_server

pytestmark = pytest.mark.process

LOAD = "/v2/repository/models/alexnet/load"


@pytest.fixture
def versions(grey: str, tmp_path: Path) -> Path:
    """A folder with version 1 in it."""
    shutil.copytree(grey, tmp_path / "1", copy_function=os.link)
    return tmp_path


@pytest.fixture
def large_versions(starter: str, tmp_path: Path) -> Path:
    """The same, but opening one takes seconds."""
    shutil.copytree(starter, tmp_path / "large" / "1", copy_function=os.link)
    return tmp_path / "large"


def add(versions: Path, version: int) -> None:
    """The same weights under another number."""
    shutil.copytree(versions / "1", versions / "new", copy_function=os.link)
    (versions / "new").rename(versions / str(version))


@contextmanager
def serving(versions: Path, *flags: str) -> Iterator[ServerProcess]:
    running = start_server("--model", str(versions), "--repository-control", "local", *flags)
    try:
        yield running
    finally:
        code, log = stop_server(running)
        assert code == 0, log
        assert "Traceback" not in log, log


async def ask(session: aiohttp.ClientSession, query: str = "") -> tuple[int, dict[str, Any]]:
    async with session.post(f"/v1/classify{query}", data=jpeg()) as response:
        return response.status, await response.json()


async def test_versions_are_exchanged_under_load_and_no_request_is_lost(
    large_versions: Path,
) -> None:
    with serving(large_versions) as server:
        async with aiohttp.ClientSession(server.http) as session:
            seen: list[str] = []
            done = asyncio.Event()

            async def caller() -> None:
                while not done.is_set():
                    status, body = await ask(session)
                    assert status == 200, body
                    seen.append(body["model"]["version"])
                    await asyncio.sleep(0.05)  # opening gives way, and would never get a turn

            callers = [asyncio.create_task(caller()) for _ in range(4)]
            for version in (2, 3):
                add(large_versions, version)
                async with session.post(LOAD) as response:
                    assert response.status == 200, await response.text()
                before = len(seen)
                async with asyncio.timeout(10):
                    while str(version) not in seen[before:]:
                        await asyncio.sleep(0.01)
            done.set()
            await asyncio.gather(*callers)
            assert set(seen) == {"1", "2", "3"}
            status, body = await ask(session, "?version=1")
            assert (status, body["error"]["code"]) == (404, "not_found")
            assert "version '1' of alexnet is not served: 3 are" in body["error"]["message"]


async def test_a_canary_gets_its_share_and_is_told_apart(versions: Path) -> None:
    add(versions, 2)
    flags = ("--version-policy", "all", "--version-weights", "1=75,2=25")
    with serving(versions, *flags) as server:
        async with aiohttp.ClientSession(server.http) as session:
            answers = [await ask(session) for _ in range(120)]
            count = Counter(body["model"]["version"] for _, body in answers)
            assert count["1"] + count["2"] == 120
            # 30 expected, with a standard deviation of 5.
            assert 5 < count["2"] < 60
            for version in ("1", "2"):
                status, body = await ask(session, f"?version={version}")
                assert (status, body["model"]["version"]) == (200, version)
            async with session.get("/v1/models") as response:
                models = (await response.json())["models"]
            assert [model["version"] for model in models] == ["1", "2"]
        async with (
            aiohttp.ClientSession(server.metrics) as session,
            session.get("/metrics") as response,
        ):
            text = await response.text()
        for version in ("1", "2"):
            labels = f'face="rest",outcome="ok",version="{version}"'
            assert f"alexnet_requests_total{{{labels}}} {count[version] + 1}.0" in text


async def test_a_version_that_does_not_compute_what_was_trained_is_not_served(
    versions: Path,
) -> None:
    bundle = Bundle.open(versions / "1")
    golden = Golden(bundle.golden.crops, np.roll(bundle.golden.logits, 1, axis=1)).to_bytes()
    entry = replace(bundle.manifest.golden, sha256=sha256(golden))
    manifest = replace(bundle.manifest, golden=entry)
    bad = Bundle(manifest, {**bundle.files, entry.file: golden}, "bad")
    with serving(versions) as server:
        async with aiohttp.ClientSession(server.http) as session:
            bad.write(versions / "2")
            async with session.post(LOAD) as response:
                assert response.status >= 400
                assert "differ from the trained network's" in (await response.json())["error"]
            async with session.post("/v2/repository/index") as response:
                states = {entry["version"]: entry for entry in await response.json()}
            assert states["1"]["state"] == "READY"
            assert states["2"]["state"] == "UNAVAILABLE"
            assert "differ from the trained network's" in states["2"]["reason"]
            status, body = await ask(session)
            assert (status, body["model"]["version"]) == (200, "1")


async def test_new_versions_are_found_by_looking(versions: Path) -> None:
    with serving(versions, "--poll-s", "0.1") as server:
        async with aiohttp.ClientSession(server.http) as session:
            add(versions, 2)
            async with asyncio.timeout(20):
                while (await ask(session))[1]["model"]["version"] != "2":
                    await asyncio.sleep(0.05)
