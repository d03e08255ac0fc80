"""A server in a separate process for benchmarks, and the description of a run."""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc

STARTER = Path("models/starter.tar.xz")


@dataclass(frozen=True)
class Server:
    grpc: str
    http: str
    metrics: str

    async def metric(self, name: str) -> float:
        async with aiohttp.ClientSession() as session, session.get(self.metrics) as response:
            text = await response.text()
        return sum(float(v) for v in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


@asynccontextmanager
async def run_server(
    *flags: str, cores: Sequence[int] = (), folder: Path = Path()
) -> AsyncIterator[Server]:
    """The server of the checkout in `folder`."""
    ports = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")
    command = [sys.executable, "-m", "server", *ports, *flags]
    if cores:
        command = ["taskset", "--cpu-list", ",".join(map(str, cores)), *command]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, cwd=folder)
    assert process.stdout is not None
    try:
        banner = ""
        while "curl" not in banner:
            line = (await process.stdout.readline()).decode()
            if not line:
                raise SystemExit("the server did not start")
            banner += line
        names = (r"gRPC +(\S+)", r"REST +(http://\S+)", r"metrics +(http://\S+)")
        yield Server(*(re.findall(name, banner)[0] for name in names))
    finally:
        process.terminate()
        await process.wait()


def continued(file: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """The record that is there, under the facts of this run, which adds to it; its command and its
    date are those of all runs. Raises SystemExit where another fact, such as the commit, differs.
    """
    before = json.loads(file.read_text()) if file.exists() else facts
    for name in facts.keys() - {"command", "date"}:
        if before.get(name) != facts[name]:
            raise SystemExit(
                f"{file} has figures of another run, whose {name} is {before.get(name)} and not "
                f"{facts[name]}: name another --output, or remove it"
            )
    found = before | facts
    for name, between in (("command", " && "), ("date", ", ")):
        told = before[name].split(between)
        found[name] = between.join(told if facts[name] in told else [*told, facts[name]])
    return found


def describe_run(command: str, folder: Path = Path()) -> dict[str, Any]:
    from alexnet.onnx_runtime import onnxruntime

    model = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    git = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False)
    return {
        "command": command, "date": time.strftime("%Y-%m-%d"), "commit": commit.stdout.strip(),
        "cpu": f"{len(model)} x {model[0]}", "python": sys.version.split()[0],
        "onnxruntime": onnxruntime.__version__, "grpcio": grpc.__version__,
    }  # fmt: skip
