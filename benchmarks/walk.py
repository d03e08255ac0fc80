"""How many of our functions one photo passes through, and how often the next is in another file.

    python -m benchmarks.walk photos/ [--show rest]

A server in this process is asked for one photo by each face, with a profile hook on every thread;
calls of functions in alexnet/ and server/ count, and each time a coroutine goes on. Threads take
turns by chance: the numbers are good to two or three.
"""

import argparse
import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import aiohttp
import grpc

from alexnet_client.photos import photos_in
from protos import classifier_pb2, classifier_pb2_grpc, oip_pb2, oip_pb2_grpc
from server.app import serving
from server.options import load

ROOT = Path(__file__).parents[1]
OURS = tuple(str(ROOT / package) for package in ("alexnet/", "server/"))
SETTLE_S = 0.3
"""What is counted after an answer has gone out belongs to it."""


class Walk:
    """The calls since `begin`, as (file, function)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self._on = False

    def hook(self, frame: FrameType, event: str, arg: object) -> None:
        file = frame.f_code.co_filename
        if self._on and event == "call" and file.startswith(OURS):
            self.calls.append((file.removeprefix(f"{ROOT}/"), frame.f_code.co_qualname))

    async def of(self, ask: Callable[[], Awaitable[None]]) -> list[tuple[str, str]]:
        for _ in range(3):  # caches fill
            await ask()
        await asyncio.sleep(SETTLE_S)
        self.calls, self._on = [], True
        await ask()
        await asyncio.sleep(SETTLE_S)
        self._on = False
        return self.calls


async def walks(photo: bytes) -> dict[str, list[tuple[str, str]]]:
    walk = Walk()
    threading.setprofile(walk.hook)
    sys.setprofile(walk.hook)
    ports = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")
    async with (
        serving(load(ports)) as server,
        aiohttp.ClientSession(f"http://127.0.0.1:{server.http.port}") as session,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc.port}") as channel,
    ):
        classifier = classifier_pb2_grpc.ClassifierStub(channel)
        oip = oip_pb2_grpc.GRPCInferenceServiceStub(channel)

        async def post(path: str, data: Any, **headers: str) -> None:
            async with session.post(path, data=data, headers=headers) as response:
                assert response.status == 200, await response.text()

        async def form() -> None:
            data = aiohttp.FormData()
            for name in ("one", "two"):
                data.add_field("file", photo, filename=name)
            await post("/v1/classify", data)

        def infer() -> oip_pb2.ModelInferRequest:
            request = oip_pb2.ModelInferRequest(model_name="alexnet")
            request.inputs.add(name="image", datatype="BYTES", shape=[1])
            request.raw_input_contents.append(len(photo).to_bytes(4, "little") + photo)
            return request

        raw = {"Inference-Header-Content-Length": "0"}
        asks: dict[str, Callable[[], Awaitable[Any]]] = {
            "rest": lambda: post("/v1/classify", photo),
            "grpc": lambda: classifier.Classify(classifier_pb2.ClassifyRequest(image=photo)),
            "form of two": form,
            "oip rest, raw": lambda: post("/v2/models/alexnet/infer", photo, **raw),
            "oip grpc": lambda: oip.ModelInfer(infer()),
        }
        return {name: await walk.of(ask) for name, ask in asks.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--show", help="every call of one face")
    options = parser.parse_args()
    found = asyncio.run(walks(photos_in(options.photos)[0].read()))
    print(f"{'face':<16}{'calls':>6}{'functions':>11}{'files':>7}{'moves between files':>21}")
    for name, calls in found.items():
        files = [file for file, _ in calls]
        moves = sum(a != b for a, b in pairwise(files))
        print(f"{name:<16}{len(calls):>6}{len(set(calls)):>11}{len(set(files)):>7}{moves:>21}")
    for file, function in found.get(options.show, []):
        print(f"  {file:<32}{function}")


if __name__ == "__main__":
    main()
