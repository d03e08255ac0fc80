"""The metrics of GPUs: none on a CPU, and the work of each engine on a GPU."""

import gc
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from server.telemetry import gpus
from server.telemetry.gpus import GpuMetrics
from tests.buckets import crops, engine_of
from tests.fakes import FakeEngine


class FakeGpus:
    def __init__(self, bus_ids: list[str]):
        self.bus_ids = bus_ids

    def read(self) -> Any:
        yield "nv_gpu_utilization", "Busy.", {f"GPU-{bus}": 0.5 for bus in self.bus_ids}


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    monkeypatch.setattr(gpus, "Gpus", FakeGpus)
    return CollectorRegistry()


def test_a_server_on_the_cpu_has_no_metrics_of_gpus(registry: CollectorRegistry) -> None:
    metrics = GpuMetrics()
    registry.register(metrics)
    metrics.serving("1", [FakeEngine()])
    assert list(registry.collect()) == []


def test_an_engines_work_is_counted_by_version_and_device(registry: CollectorRegistry) -> None:
    metrics = GpuMetrics()
    registry.register(metrics)
    engine, _, _ = engine_of()
    metrics.serving("3", [engine])
    for _ in range(4):
        engine.run(crops(25))
    labels = {"version": "3", "engine": "fake-fp16:0"}
    assert registry.get_sample_value("alexnet_engine_runs_total", labels) == 4
    seconds = registry.get_sample_value("alexnet_engine_compute_seconds_total", labels)
    assert seconds == pytest.approx(0.004)
    name = "nv_gpu_utilization"
    assert registry.get_sample_value(name, {"gpu_uuid": "GPU-0000:3B:00.0"}) == 0.5


def test_the_metrics_do_not_keep_a_closed_version_in_memory(registry: CollectorRegistry) -> None:
    metrics = GpuMetrics()
    registry.register(metrics)
    metrics.serving("1", [engine_of()[0]])
    gc.collect()
    labels = {"version": "1", "engine": "fake-fp16:0"}
    assert registry.get_sample_value("alexnet_engine_runs_total", labels) is None
