"""A real Prometheus scrapes a real server, and every panel of the dashboard shows something."""

import asyncio
import contextlib
import json
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.paths import ROOT
from tests.photos import jpeg
from tests.processes import free_port, start_server, stop_server

pytestmark = pytest.mark.process
DEPLOY = ROOT / "deploy"


@contextlib.contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """Its address; with the rules and the settings of deploy/, but for where and how often."""
    if not shutil.which("prometheus"):
        pytest.skip("prometheus is not installed")
    config = yaml.safe_load((DEPLOY / "monitoring" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "monitoring" / "alerts.yaml")]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    (folder / "prometheus.yml").write_text(json.dumps(config))
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        ["prometheus", f"--config.file={folder / 'prometheus.yml'}", "--log.level=error",
         f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"],
    )  # fmt: skip
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(timeout=20)


async def asked(session: aiohttp.ClientSession, query: str) -> list[Any]:
    async with session.get("/api/v1/query", params={"query": query}) as reply:
        answer = await reply.json()
    assert answer["status"] == "success", (query, answer)
    return list(answer["data"]["result"])


async def ready(session: aiohttp.ClientSession) -> None:
    """It takes connections before it can answer: queries get 503 until then."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with session.get("/-/ready") as reply:
                    if reply.status == 200:
                        return
            await asyncio.sleep(0.2)


async def until(session: aiohttp.ClientSession, query: str) -> None:
    async with asyncio.timeout(60):
        while not await asked(session, query):
            await asyncio.sleep(0.2)


async def classified(address: str) -> None:
    """Photos and files that are none."""
    async with aiohttp.ClientSession(address) as caller:
        for seed in range(20):
            for body, status in ((jpeg(seed=seed), 200), (b"no photo", 415)):
                async with caller.post("/v1/classify", data=body) as reply:
                    assert reply.status == status


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_every_panel_shows_data_and_no_alert_fires(
    tmp_path: Path, grey: str, workers: str
) -> None:
    generate = runpy.run_path(str(DEPLOY / "generate.py"))
    source = generate["document"]()
    queries = generate["Queries"](source)
    server = start_server("--model", grey, "--workers", workers)
    try:
        with prometheus(tmp_path, server.metrics.removeprefix("http://")) as address:
            async with aiohttp.ClientSession(address) as session:
                await ready(session)
                await until(session, 'up{job="alexnet"} == 1')
                # A rate needs two scrapes that differ.
                await classified(server.http)
                await until(session, 'alexnet_requests_total{outcome="ok"} > 0')
                await classified(server.http)
                await until(session, 'rate(alexnet_requests_total{outcome="ok"}[20s]) > 0')
                await until(session, "rate(alexnet_batch_size_count[20s]) > 0")
                for row in source["rows"]:
                    for panel in row["panels"]:
                        for query, _ in generate["targets"](queries, panel, "20s"):
                            found = await asked(session, query)
                            assert found, f"{panel['title']} is empty: {query}"
                            assert "NaN" not in {each["value"][1] for each in found}, query
                async with session.get("/api/v1/rules") as reply:
                    (group,) = (await reply.json())["data"]["groups"]
                assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}
                assert "firing" not in {rule["state"] for rule in group["rules"]}
    finally:
        stop_server(server)
