"""Readings from the GPUs' driver, with a fake driver that can refuse every call."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from gpu.nvml import Gpus

BUSES = {"0000:3B:00.0": "GPU-one", "0000:86:00.0": "GPU-two"}
ALL = {
    "nv_gpu_utilization": 0.25,
    "nv_gpu_memory_total_bytes": 80e9,
    "nv_gpu_memory_used_bytes": 2e9,
    "nv_gpu_power_usage": 312.5,
    "nv_gpu_power_limit": 700.0,
    "nv_energy_consumption": 1.5,
    "alexnet_gpu_temperature_celsius": 61.0,
}
CALLS = {
    "nvmlDeviceGetUtilizationRates": ["nv_gpu_utilization"],
    "nvmlDeviceGetMemoryInfo": ["nv_gpu_memory_total_bytes", "nv_gpu_memory_used_bytes"],
    "nvmlDeviceGetPowerUsage": ["nv_gpu_power_usage"],
    "nvmlDeviceGetPowerManagementLimit": ["nv_gpu_power_limit"],
    "nvmlDeviceGetTotalEnergyConsumption": ["nv_energy_consumption"],
    "nvmlDeviceGetTemperatureV": ["alexnet_gpu_temperature_celsius"],
    "nvmlDeviceGetUUID": list(ALL),
    "nvmlDeviceGetHandleByPciBusId": list(ALL),
    "nvmlInit": list(ALL),
}


class FakeNvml:
    """In place of pynvml. A handle is the GPU's uuid."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        self.refuses: set[str] = set()

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in self.refuses:
            raise self.NVMLError("Not Supported")
        return super().__getattribute__(name)

    def nvmlInit(self) -> None: ...  # noqa: N802

    def nvmlDeviceGetHandleByPciBusId(self, bus_id: str) -> str:  # noqa: N802
        return BUSES[bus_id]

    def nvmlDeviceGetUUID(self, gpu: str) -> str:  # noqa: N802
        return gpu

    def nvmlDeviceGetUtilizationRates(self, gpu: str) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=25, memory=99)

    def nvmlDeviceGetMemoryInfo(self, gpu: str) -> Any:  # noqa: N802
        return SimpleNamespace(total=80_000_000_000, used=2_000_000_000, free=1)

    def nvmlDeviceGetPowerUsage(self, gpu: str) -> int:  # noqa: N802
        return 312_500  # mW

    def nvmlDeviceGetPowerManagementLimit(self, gpu: str) -> int:  # noqa: N802
        return 700_000

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: str) -> int:  # noqa: N802
        return 1_500  # mJ

    def nvmlDeviceGetTemperatureV(self, gpu: str, sensor: int) -> int:  # noqa: N802
        return 61


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    return nvml


def read(gpus: Gpus, uuid: str) -> dict[str, float]:
    return {name: values[uuid] for name, _, values in gpus.read() if uuid in values}


def test_every_gpu_in_use_is_read_in_the_units_that_the_metrics_name(nvml: FakeNvml) -> None:
    gpus = Gpus(list(BUSES))
    assert read(gpus, "GPU-one") == read(gpus, "GPU-two") == ALL


def test_a_gpu_that_is_not_in_use_is_not_read(nvml: FakeNvml) -> None:
    gpus = Gpus(["0000:86:00.0"])
    assert all(set(values) == {"GPU-two"} for _, _, values in gpus.read())


@pytest.mark.parametrize("call", CALLS)
def test_a_reading_that_the_driver_refuses_is_left_out_and_logged_once(
    nvml: FakeNvml, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    nvml.refuses.add(call)
    gpus = Gpus(["0000:3B:00.0"])
    for _ in range(3):
        assert read(gpus, "GPU-one") == {k: v for k, v in ALL.items() if k not in CALLS[call]}
    missing = 1 if len(CALLS[call]) == len(ALL) else len(CALLS[call])
    assert [record.getMessage()[-15:] for record in caplog.records] == [": Not Supported"] * missing


def test_a_driver_that_fails_while_serving_breaks_no_scrape(nvml: FakeNvml) -> None:
    gpus = Gpus(["0000:3B:00.0"])
    nvml.refuses |= CALLS.keys()
    assert read(gpus, "GPU-one") == {}
    nvml.refuses.clear()
    assert read(gpus, "GPU-one") == ALL


def test_a_missing_package_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert [values for _, _, values in Gpus(list(BUSES)).read()] == [{}] * len(ALL)
    (record,) = caplog.records
    assert "nvidia-ml-py" in record.getMessage()
