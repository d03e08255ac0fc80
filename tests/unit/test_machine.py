"""Triton's metrics of the machine."""

from pathlib import Path

from server.telemetry.machine import Machine


def values(machine: Machine) -> dict[str, float]:
    return {metric.name: metric.samples[0].value for metric in machine.collect()}


def test_cpu_and_memory_are_those_of_proc(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 400 kB\n")
    stat.write_text("cpu  10 10 10 100 100 0 0 0 0 0\ncpu0 1 1\n")
    machine = Machine(tmp_path)
    stat.write_text("cpu  60 10 20 120 110 10 5 0 7 7\ncpu0 1 1\n")
    assert values(machine) == {
        "nv_cpu_utilization": 75 / 105,
        "nv_cpu_memory_total_bytes": 1000 * 1024,
        "nv_cpu_memory_used_bytes": 600 * 1024,
    }


def test_this_machine_has_them() -> None:
    found = values(Machine())
    assert 0 <= found["nv_cpu_utilization"] <= 1
    assert 0 < found["nv_cpu_memory_used_bytes"] < found["nv_cpu_memory_total_bytes"]


def test_without_proc_there_are_none(tmp_path: Path) -> None:
    assert values(Machine(tmp_path)) == {}
