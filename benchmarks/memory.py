"""Whether the server's memory is where it was after many refused calls, and after many reloads.

    python -m benchmarks.memory --output RECORD

10,000 gRPC calls are refused, each with a message of 300 kB; and a version is loaded 60 times while
a photo is sent every 0.2 s. RECORD.jsonl gets a line for each, RECORD.md is the page of all that
are there, as benchmarks/hostile.py writes them.
"""

import argparse
import asyncio
import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import grpc

from alexnet.bundle import Bundle
from benchmarks.attacks import field
from benchmarks.hostile import CONNECTIONS, honest, resident_mb
from benchmarks.hostile_page import write_page
from benchmarks.server import STARTER, describe_run, run_server

CALLS, MESSAGE_BYTES, RELOADS, A_FEW = 10_000, 300_000, 60, 3
SETTLED_S = 2.0
"""After the last: what was closed then has let go."""


async def refused_calls() -> dict[str, Any]:
    message = field(1, b"no such model") + field(7, bytes(MESSAGE_BYTES))
    async with run_server("--model", str(STARTER)) as server:
        await honest(server, 1.0)
        idle = await resident_mb(server)
        refused, resident = 0, []
        async with grpc.aio.insecure_channel(server.grpc) as channel:
            infer: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

            async def ask(times: int) -> int:
                count = 0
                for _ in range(times):
                    try:
                        await infer(message, timeout=30)
                    except grpc.aio.AioRpcError as error:
                        count += error.code() is grpc.StatusCode.NOT_FOUND
                return count

            for _ in range(10):
                each = CALLS // 10 // CONNECTIONS
                refused += sum(await asyncio.gather(*(ask(each) for _ in range(CONNECTIONS))))
                resident.append(await resident_mb(server))
        await asyncio.sleep(SETTLED_S)
        after = await resident_mb(server)
    return {
        "times": f"{refused:,} refused gRPC calls of {MESSAGE_BYTES:,} bytes",
        "idle_mb": round(idle), "few_mb": round(resident[0]), "few": "the first 1,000",
        "most_mb": round(max(resident)), "after_mb": round(after), "failed": CALLS - refused,
    }  # fmt: skip


async def reloads() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        versions = Path(folder) / "alexnet"
        Bundle.open(STARTER).write(versions / "1")
        flags = ("--model", str(versions), "--repository-control", "local")
        async with run_server(*flags) as server, aiohttp.ClientSession(server.http) as session:
            await honest(server, 1.0)
            idle, resident, failed = await resident_mb(server), [], 0
            loading = asyncio.Event()

            async def photos() -> tuple[int, int]:
                sent = unanswered = 0
                while not loading.is_set():
                    answers = await honest(server, 1.0)
                    sent += len(answers)
                    unanswered += sum(not answered for _, answered in answers)
                return sent, unanswered

            asking = asyncio.create_task(photos())
            for _ in range(RELOADS):
                (versions / "1" / "manifest.json").touch()
                async with session.post("/v2/repository/models/alexnet/load") as response:
                    failed += response.status != 200
                resident.append(await resident_mb(server))
            loading.set()
            sent, unanswered = await asking
            await asyncio.sleep(SETTLED_S)
            after = await resident_mb(server)
    return {
        "times": f"{RELOADS} reloads of a version beside {sent} photos",
        "idle_mb": round(idle), "few_mb": round(resident[A_FEW - 1]), "few": f"{A_FEW}",
        "most_mb": round(max(resident)), "after_mb": round(after), "failed": failed + unanswered,
    }  # fmt: skip


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output", type=Path, help="the record, without a suffix")
    output = parser.parse_args().output
    run = describe_run("python -m benchmarks.memory")
    for measured in (refused_calls, reloads):
        row = await measured()
        print(json.dumps(row), flush=True)
        if output:
            with output.with_suffix(".jsonl").open("a") as record:
                record.write(json.dumps(run | row) + "\n")
            with suppress(IndexError):  # no attack is there yet
                write_page(output)


if __name__ == "__main__":
    asyncio.run(main())
