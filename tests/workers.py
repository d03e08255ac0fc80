"""The worker processes behind a server's ports, asked together and one by one."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from tests.photos import jpeg
from tests.processes import ServerProcess

WORKERS = ("--workers", "2")
PHOTO = jpeg(64, 64)
# The kernel deals connections out by chance: all of them to one worker once in 2 ** 23 times.
CONNECTIONS = 24


@dataclass(frozen=True)
class Worker:
    pid: int
    folder: Path
    number: int


def workers(server: ServerProcess) -> list[Worker]:
    return workers_of(server.process.pid)


def workers_of(pid: int) -> list[Worker]:
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
        except FileNotFoundError:  # it has just ended
            continue
        if "server.worker" in words:
            folder, number = words[words.index("server.worker") + 1 :][:2]
            found.append(Worker(int(child), Path(folder), int(number)))
    return sorted(found, key=lambda worker: worker.number)


async def metrics(of: ServerProcess | Worker, path: str = "/metrics") -> str:
    """Of all workers together, or of one worker, from its own socket."""
    connector, url = None, "http://worker"
    if isinstance(of, Worker):
        connector = aiohttp.UnixConnector(str(of.folder / f"{of.number}.sock"))
    else:
        url = of.metrics
    async with (
        aiohttp.ClientSession(url, connector=connector) as session,
        session.get(path) as response,
    ):
        assert response.status == 200
        return await response.text()


async def classify(url: str, photos: int = 1) -> list[dict[str, Any]]:
    """One photo after the other over a connection of its own."""
    answers = []
    async with aiohttp.ClientSession(url) as session:
        for _ in range(photos):
            async with session.post("/v1/classify", data=PHOTO) as response:
                answers.append({"status": response.status, **await response.json()})
    return answers


async def over_rest(server: ServerProcess) -> None:
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(classify(server.http, 2)) for _ in range(CONNECTIONS)]
    assert {answer["status"] for task in asked for answer in task.result()} == {200}


async def channels(stack: AsyncExitStack, server: ServerProcess) -> list[grpc.aio.Channel]:
    """Each with a connection of its own: channels of one process would share one."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    return [
        await stack.enter_async_context(grpc.aio.insecure_channel(server.grpc, options))
        for _ in range(CONNECTIONS)
    ]


async def over_grpc(server: ServerProcess) -> None:
    async with AsyncExitStack() as stack:
        stubs = [pb_grpc.ClassifierStub(each) for each in await channels(stack, server)]
        request = pb.ClassifyRequest(image=PHOTO)
        answers = await asyncio.gather(*(stub.Classify(request) for stub in stubs * 2))
    assert all(answer.predictions for answer in answers)


async def tell(server: ServerProcess, what: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession(server.http) as session,
        session.post(f"/v2/repository/models/alexnet/{what}") as response,
    ):
        return response.status, await response.text()


async def served(server: ServerProcess) -> list[set[str]]:
    """The versions that each worker says it serves. Answers on the public port have to be of the
    same versions."""
    said = [set(json.loads(await metrics(each, "/served"))) for each in workers(server)]
    answers = [(await classify(server.http))[0] for _ in range(CONNECTIONS)]
    seen = {answer["model"]["version"] for answer in answers if answer["status"] == 200}
    refusals = {answer["error"]["code"] for answer in answers if answer["status"] != 200}
    assert seen == set.union(*said)
    assert refusals == (set() if seen else {"not_ready"})
    return said
