"""Our kernels without a GPU: interpreted for their results, compiled for their registers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="make test-gpu-build has it")

from benchmarks.gpu.resources import ARCHITECTURES, cases, main, resources
from gpu.kernels import norm

ROOT = Path(__file__).parents[2]
# case -> registers per thread on sm_80 and sm_90, with Triton 3.9.0. At 64 a multiprocessor holds
# half of its maximum of threads; at 32 all of them.
REGISTERS = {
    "pixels, 256": {80: [32], 90: [32]},
    "rank, 256": {80: [32], 90: [32]},
    "norm 96, 128": {80: [21], 90: [21]},
    "norm 96 backward, 128": {80: [39], 90: [39]},
    "pool 64, 1": {80: [46], 90: [44]},
    "norm, pool 96, 1": {80: [64], 90: [64]},
    "norm, pool 256, 1": {80: [69], 90: [70]},
    "pool 64, 256": {80: [42], 90: [41]},
    "norm, pool 96, 256": {80: [56], 90: [56]},
    "norm, pool 256, 256": {80: [56], 90: [56]},
    "fc6 torch.int8, 1": {80: [72, 24], 90: [76, 26]},
    "fc6 torch.int8, 64": {80: [128, 24], 90: [95, 26]},
    "fc6 torch.float8_e4m3fn, 1": {90: [72, 26]},
    "fc6 torch.float8_e4m3fn, 64": {90: [104, 26]},
}


def test_the_interpreted_kernels_agree_with_their_references() -> None:
    """In a separate process, as Triton chooses the interpreter when it is imported."""
    folder = Path(__file__).with_name("interpreted")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        cwd=ROOT, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("case", "architecture"), [(c, a) for c, by in REGISTERS.items() for a in by]
)
def test_a_kernel_spills_nothing_and_uses_the_listed_registers(
    case: str, architecture: int
) -> None:
    found = resources(cases(architecture)[case], architecture)
    assert [kernel.registers for kernel in found] == REGISTERS[case][architecture]
    assert all(kernel.spilled == 0 and kernel.registers < 255 for kernel in found)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_registers_of_every_kernel_are_listed(architecture: int) -> None:
    assert set(cases(architecture)) == {c for c, by in REGISTERS.items() if architecture in by}


def test_the_table_names_every_kernel(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: cases(90)[name] for name in ("rank, 256", "fc6 torch.int8, 1")}
    monkeypatch.setattr("benchmarks.gpu.resources.cases", lambda architecture: few)
    main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["kernel", "registers", "spilled", "shared"]
    assert ["fc6", "torch.int8,", "1", "sm_90", "part", "76", "0", "36864"] in rows
    assert ["rank,", "256", "sm_80", "rank", "32", "0", "32"] in rows
    assert len(rows) == 1 + 2 * 3


def test_spills_are_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(norm._LAUNCH, "maxnreg", 24)
    (found,) = resources(cases(90)["norm 96 backward, 128"], 90)
    assert found.registers <= 24
    assert found.spilled > 0
