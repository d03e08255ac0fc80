"""An engine on a GPU that cannot be opened leaves nothing behind."""

from typing import Any

import pytest

pytest.importorskip("cuda.bindings", reason="make test-gpu-build has it")

from gpu import open as opening
from tests.buckets import FakeProgram
from tests.gpus import FakeDevice


def test_a_program_that_lacks_memory_for_a_size_is_closed_before_its_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []

    class Program(FakeProgram):
        def prepare(self, size: int, images: int, logits: int, stream: int) -> Any:
            raise RuntimeError(f"no memory for batches of {size}")

        def close(self) -> None:
            said.append("program")

    class Device(FakeDevice):
        def close(self) -> None:
            said.append("device")

    device = Device()
    monkeypatch.setattr(opening, "CudaDevice", lambda number: device)
    monkeypatch.setattr(opening, "open_program", lambda *_: Program(device))
    with pytest.raises(RuntimeError, match="no memory for batches of 4"):
        opening.open_on_gpu("tensorrt", b"", "fp16", 0, 4, 4, 10, None)
    assert said == ["program", "device"]
