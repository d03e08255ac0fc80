"""`alexnet-plan` on a machine without a GPU."""

import logging
from pathlib import Path

import pytest

from alexnet.bundle import Bundle
from export.to_tensorrt import main
from gpu import plan
from gpu.facts import Gpu
from tests.paths import STARTER

trt = pytest.importorskip("tensorrt_rtx", reason="make test-gpu-build has it")


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> str | None:
    """Runs alexnet-plan and returns its error message, or None."""
    monkeypatch.setattr("sys.argv", ["alexnet-plan", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return str(end.code)
    return None


def test_a_plan_for_a_gpu_elsewhere_is_found_by_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    requested: list[object] = []

    def tensorrt(modules: object) -> object:
        requested.append(modules)
        return trt

    monkeypatch.setattr(plan, "tensorrt", tensorrt)
    caplog.set_level(logging.INFO)
    flags = ("--for-capability", "8.9", "--max-batch-size", "2", "--cache-dir", tmp_path)
    assert command(monkeypatch, STARTER, *flags) is None
    (file,) = tmp_path.iterdir()
    assert caplog.messages[-1] == str(file)
    bundle = Bundle.open(STARTER)
    starter = bundle.files[bundle.manifest.artifacts[0].file]
    ada = Gpu("NVIDIA L4", (8, 9), "580.95.05")
    monkeypatch.setattr(plan, "build", None)
    assert plan.cached(starter, "fp16", (1, 2), ada, tmp_path).key.file(tmp_path) == file
    assert requested == [("tensorrt_rtx",), plan.MODULES]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("nowhere",), "there is no model bundle at nowhere"),
        ((STARTER, "--device", 99), "GPU 99 cannot be used: "),
        (
            (STARTER, "--for-capability", "8.0", "--precision", "fp8"),
            "fp8 needs compute capability",
        ),
        ((STARTER, "--for-capability", "8.9", "--cache-dir", "/dev/null"), "could not be written"),
    ],
)
def test_wrong_arguments_are_reported_in_one_sentence(
    arguments: tuple[object, ...], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(plan, "build", lambda *_, **__: (b"engine", b""))
    message = command(monkeypatch, *arguments)
    assert message is not None
    assert message.startswith("alexnet-plan: ")
    assert reason in message
    assert "\n" not in message
