"""GPUs are counted by the driver; one that does not work is not taken for none in silence."""

from types import SimpleNamespace
from typing import Any

import pytest

from gpu.present import count


def driver(monkeypatch: pytest.MonkeyPatch, gpus: int = 0, init: int = 0, asked: int = 0) -> None:
    """A fake of NVIDIA's library; `init` and `asked` are what its two calls return."""

    def counted(number: Any) -> int:
        number._obj.value = gpus
        return asked

    def explained(code: int, text: Any) -> None:
        text._obj.value = b"system has unsupported display driver"

    library = SimpleNamespace(
        cuInit=lambda _: init, cuDeviceGetCount=counted, cuGetErrorString=explained
    )
    monkeypatch.setattr("ctypes.CDLL", lambda name: library)


def test_the_driver_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    driver(monkeypatch, gpus=2)
    assert count() == 2


@pytest.mark.parametrize("code", [34, 100])
def test_a_machine_without_a_gpu_is_nothing_to_speak_of(
    code: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    driver(monkeypatch, init=code)
    assert (count(), caplog.text) == (0, "")


@pytest.mark.parametrize("failing", ["init", "asked"])
def test_a_driver_that_does_not_work_is_a_warning_with_its_code_and_meaning(
    failing: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    driver(monkeypatch, **{failing: 803})
    assert count() == 0
    assert "system has unsupported display driver (CUDA error 803)" in caplog.text


def test_without_a_driver_there_is_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert (count(), caplog.text) == (0, "")
