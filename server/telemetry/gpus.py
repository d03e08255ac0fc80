"""What the driver says of the GPUs in use, when scraped; as Triton names it, where Triton has it.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/metrics.html
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from weakref import WeakValueDictionary

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from server.engines.base import Engine
from server.engines.buckets import BucketEngine

log = logging.getLogger(__name__)

READINGS: tuple[tuple[str, str, Callable[[Any, Any], float]], ...] = (
    ("nv_gpu_utilization", "Fraction of the time in which a kernel ran.",
     lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100),
    ("nv_gpu_memory_total_bytes", "Memory of the GPU.",
     lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).total),
    ("nv_gpu_memory_used_bytes", "Memory in use, by whichever process.",
     lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used),
    ("nv_gpu_power_usage", "Watts.", lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000),
    ("nv_gpu_power_limit", "Watts at which the GPU slows itself down.",
     lambda nvml, gpu: nvml.nvmlDeviceGetPowerManagementLimit(gpu) / 1000),
    ("nv_energy_consumption", "Joules since the driver was loaded.",
     lambda nvml, gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1000),
    ("alexnet_gpu_temperature_celsius", "Temperature of the chip.",
     lambda nvml, gpu: nvml.nvmlDeviceGetTemperatureV(gpu, nvml.NVML_TEMPERATURE_GPU)),
)  # fmt: skip


class Gpus:
    """Never raises: what cannot be had is left out, and said once in the log."""

    def __init__(self, bus_ids: Sequence[str]):
        """PCI bus numbers, as `0000:3B:00.0`: CUDA and the driver count GPUs differently."""
        self._told: set[str] = set()
        self._handles: dict[str, Any] = {}
        try:
            import pynvml as nvml

            nvml.nvmlInit()
        except Exception as error:  # not installed, no driver, or another one than the package's
            self._tell("no metrics of GPUs (nvidia-ml-py and the driver give them)", error)
            return
        self._nvml = nvml
        for bus_id in bus_ids:
            try:
                handle = nvml.nvmlDeviceGetHandleByPciBusId(bus_id)
                self._handles[nvml.nvmlDeviceGetUUID(handle)] = handle
            except nvml.NVMLError as error:
                self._tell(f"no metrics of the GPU at {bus_id}", error)

    def read(self) -> Iterator[tuple[str, str, dict[str, float]]]:
        """(name, what it is, GPU's uuid -> value) of every quantity."""
        for name, text, reading in READINGS:
            values = {}
            for uuid, handle in self._handles.items():
                try:
                    values[uuid] = float(reading(self._nvml, handle))
                except Exception as error:
                    self._tell(f"no {name} of {uuid}", error)
            yield name, text, values

    def _tell(self, what: str, error: Exception) -> None:
        if what not in self._told:
            self._told.add(what)
            log.warning("%s: %s", what, error)


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
