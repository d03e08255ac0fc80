"""What the driver says of the GPUs in use, as Triton names it where Triton has it.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/metrics.html
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

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
