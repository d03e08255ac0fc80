"""What a GPU is, by its number."""

from types import SimpleNamespace

import pytest

from gpu.facts import Gpu, facts


def test_the_facts_of_a_missing_gpu_are_one_clear_error() -> None:
    with pytest.raises(RuntimeError, match="GPU 99 cannot be used: "):
        facts(99)


def test_facts_use_cudas_numbering(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(name=b"NVIDIA H200", major=9, minor=0)
    success = pytest.importorskip("cuda.bindings.runtime").cudaError_t.cudaSuccess
    monkeypatch.setattr(
        "cuda.bindings.runtime.cudaGetDeviceProperties", lambda device: (success, found)
    )
    monkeypatch.setattr("pynvml.nvmlInit", lambda: None)
    monkeypatch.setattr("pynvml.nvmlShutdown", lambda: None)
    monkeypatch.setattr("pynvml.nvmlSystemGetDriverVersion", lambda: "580.95.05")
    assert facts(0) == Gpu("NVIDIA H200", (9, 0), "580.95.05")
