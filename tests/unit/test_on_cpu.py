"""Which engine of the CPU serves, where several are installed."""

import logging
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from alexnet.bundle import Bundle
from server.engines import on_cpu
from server.engines.on_cpu import open_on_cpu
from tests.fakes import tiny_bundle


@dataclass
class Runs:
    """An engine whose clock runs as fast as it is told."""

    name: str
    s: float
    clock: list[float]
    logits: NDArray[np.float32]
    closed: list[str] = field(default_factory=list)
    threads, on_cpu, depth = 1, True, 1

    def run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.clock[0] += self.s
        return self.logits

    def close(self) -> None:
        self.closed.append(self.name)


@dataclass
class Machine:
    """How long each engine takes, and which of them were closed."""

    took: dict[str, float]
    bundle: Bundle
    closed: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    wrong: str = ""
    clock: list[float] = field(default_factory=lambda: [0.0])

    def open(self, name: str) -> Runs:
        self.opened.append(name)
        if self.took[name] < 0:
            raise ImportError(f"{name} is broken")
        logits = self.bundle.golden.logits
        logits = -logits if name == self.wrong else logits
        return Runs(name, self.took[name], self.clock, logits, self.closed)

    def serving(self) -> str:
        names = list(self.took)
        return open_on_cpu(names, b"", self.bundle, "int8", 0.01, threads=1, batch=4).name


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine({"onnxruntime-cpu": 0.1, "openvino-cpu": 0.05}, tiny_bundle())
    openers = {name: lambda *_, name=name: machine.open(name) for name in machine.took}
    monkeypatch.setattr(on_cpu, "OPENERS", openers)
    monkeypatch.setattr(on_cpu, "_winners", {})
    monkeypatch.setattr(on_cpu.time, "perf_counter", lambda: machine.clock[0])
    return machine


@pytest.mark.parametrize(
    ("took", "serves"),
    [(0.05, "openvino-cpu"), (0.09, "openvino-cpu"), (0.095, "onnxruntime-cpu"),
     (0.2, "onnxruntime-cpu")],
)  # fmt: skip
def test_another_serves_where_it_is_clearly_faster(
    machine: Machine, took: float, serves: str, caplog: pytest.LogCaptureFixture
) -> None:
    machine.took["openvino-cpu"] = took
    with caplog.at_level(logging.INFO):
        assert machine.serving() == serves
    assert machine.closed == [name for name in machine.took if name != serves]
    rate = f"onnxruntime-cpu 40, openvino-cpu {4 / took:.0f}"
    assert f"engine {serves}: photos/s in batches of 4: {rate}" in caplog.text


def test_it_is_measured_once(machine: Machine) -> None:
    """A version that is loaded beside others would be measured beside their requests."""
    assert machine.serving() == "openvino-cpu"
    del machine.opened[:]
    machine.took["openvino-cpu"] = 0.5
    assert machine.serving() == "openvino-cpu"
    assert machine.opened == ["openvino-cpu"]


def changed(bundle: Bundle) -> None:
    """Gives it a golden batch that tells right from wrong."""
    golden = bundle.golden
    logits = golden.logits + np.eye(*golden.logits.shape, dtype=np.float32) * 20
    bundle.__dict__["golden"] = replace(golden, logits=logits)


@pytest.mark.parametrize("won", [False, True], ids=["in the race", "after it won with others"])
def test_what_computes_something_else_with_these_weights_does_not_serve(
    machine: Machine, caplog: pytest.LogCaptureFixture, won: bool
) -> None:
    if won:
        assert machine.serving() == "openvino-cpu"
    changed(machine.bundle)
    machine.wrong = "openvino-cpu"
    assert machine.serving() == "onnxruntime-cpu"
    assert "openvino-cpu is not used: the engine's probabilities differ" in caplog.text


def test_what_cannot_be_opened_does_not_serve(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.took["openvino-cpu"] = -1
    assert machine.serving() == "onnxruntime-cpu"
    assert "openvino-cpu is not used: openvino-cpu is broken" in caplog.text


def test_a_middling_batch_counts_as_much_as_the_largest(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    names = list(machine.took)
    with caplog.at_level(logging.INFO):
        open_on_cpu(names, b"", machine.bundle, "int8", 0.01, threads=1, batch=32)
    # 0.1 s for 8 photos and 0.1 s for 32.
    assert "in batches of 8 and 32: onnxruntime-cpu 128, openvino-cpu 256" in caplog.text


def test_one_alone_is_not_measured(machine: Machine) -> None:
    machine.took = {"openvino-cpu": 0.05}
    assert machine.serving() == "openvino-cpu"
    assert machine.clock == [0.0]
