"""Metrics of the GPUs in use, and of the engines on them."""

from collections.abc import Iterator, Sequence
from weakref import WeakValueDictionary

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from gpu.buckets import BucketEngine
from gpu.nvml import Gpus
from server.engines.base import Engine

ENGINES = (
    ("copy_seconds", "GPU time of copying photos in.", "copy_s"),
    ("compute_seconds", "GPU time of running the network and copying its answers.", "compute_s"),
    ("runs", "Batches.", "runs"),
)


class GpuMetrics(Collector):
    """Of all that is served on GPUs; nothing where nothing is."""

    def __init__(self) -> None:
        self._engines: WeakValueDictionary[tuple[str, str], BucketEngine] = WeakValueDictionary()
        self._gpus: Gpus | None = None

    def serving(self, version: str, engines: Sequence[Engine]) -> None:
        """From now on; a version that is served no more takes its counters along."""
        on_gpus = [engine for engine in engines if isinstance(engine, BucketEngine)]
        for engine in on_gpus:
            self._engines[version, engine.name] = engine
        if on_gpus and self._gpus is None:  # every version is on the same ones
            self._gpus = Gpus([engine.bus_id for engine in on_gpus])

    def collect(self) -> Iterator[Metric]:
        if self._gpus is None:
            return
        for name, text, values in self._gpus.read():
            metric = Metric(name, text, "gauge")
            for uuid, value in values.items():
                metric.add_sample(name, {"gpu_uuid": uuid}, value)
            yield metric
        for name, text, attribute in ENGINES:
            family = CounterMetricFamily(
                f"alexnet_engine_{name}", text, labels=("version", "engine")
            )
            for labels, engine in list(self._engines.items()):
                family.add_metric(labels, getattr(engine, attribute))
            yield family
