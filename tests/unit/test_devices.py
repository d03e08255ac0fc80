"""Several GPUs, each with an engine of its own, behind one batcher."""

import asyncio
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from alexnet.bundle import Bundle
from gpu.buckets import BucketEngine
from server.engines.choice import Wanted, choose, open_engines
from server.engines.runtimes import NVIDIA
from server.scheduler.batcher import Batcher, BatchPolicy
from tests.batching import answered, classes, job, settle
from tests.buckets import engine_of
from tests.fakes import flat_costs, tiny_bundle
from tests.gpus import FakeDevice


class Opened(SimpleNamespace):
    closed = False

    def close(self) -> None:
        self.closed = True


def opening(
    monkeypatch: pytest.MonkeyPatch, broken: int = -1
) -> tuple[Bundle, Wanted, list[Opened]]:
    """Devices 0, 1 and 3 are asked for; nothing of CUDA is needed to open them."""
    opened: list[Opened] = []

    def open_on_gpu(runtime: str, onnx: bytes, precision: str, number: int, *rest: Any) -> Opened:
        if number == broken:
            raise RuntimeError(f"GPU {number} cannot be used")
        opened.append(Opened(runtime=runtime, precision=precision, number=number, rest=rest))
        return opened[-1]

    module = SimpleNamespace(open_on_gpu=open_on_gpu)
    monkeypatch.setitem(sys.modules, "gpu.open", module)
    return tiny_bundle(), Wanted(devices=(0, 1, 3), max_batch_size=16), opened


def test_every_device_that_is_named_gets_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, wanted, opened = opening(monkeypatch)
    choice = choose(bundle, wanted, gpus=4, installed=(*NVIDIA, "tensorrt"))
    engines = open_engines(bundle, choice, wanted)
    assert list(engines) == opened
    assert [each.number for each in opened] == [0, 1, 3]
    assert {(each.runtime, each.precision) for each in opened} == {("tensorrt", "fp16")}
    assert opened[0].rest == (16, 8, 10, None)
    assert not any(each.closed for each in opened)


def test_a_device_that_cannot_be_opened_gives_the_others_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle, wanted, opened = opening(monkeypatch, broken=3)
    choice = choose(bundle, wanted, gpus=4, installed=(*NVIDIA, "tensorrt"))
    with pytest.raises(RuntimeError, match="GPU 3"):
        open_engines(bundle, choice, wanted)
    assert [(each.number, each.closed) for each in opened] == [(0, True), (1, True)]


async def test_photos_of_one_queue_go_to_every_device_and_come_back_as_their_own() -> None:
    engines: list[BucketEngine] = []
    devices: list[FakeDevice] = []
    for seed in range(3):
        engine, device, _ = engine_of(seed)
        engines.append(engine)
        devices.append(device)
    batcher = Batcher(engines, BatchPolicy(max_batch_size=8), flat_costs(), settle)
    try:
        expected, jobs = [], []
        for i in range(600):
            expected.append(i * 7 % 10)
            jobs.append(job(25 * expected[-1], side=4))
            batcher.submit(jobs[-1])
            if i % 50 == 0:
                await asyncio.sleep(0)
        results = await answered(*jobs)
        assert classes(results) == expected
    finally:
        await asyncio.to_thread(batcher.close)
    assert sum(engine.runs for engine in engines) == sum(len(d.copied_in) for d in devices)
    assert sum(sum(d.copied_in) for d in devices) == 600 * 4 * 4 * 3
