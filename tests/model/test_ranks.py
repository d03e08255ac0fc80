"""Several processes train the same network as one."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.model.short_training import SHORT
from tests.paths import ROOT
from tests.photos import class_folders
from training.__main__ import main
from training.checkpoint import Checkpoint
from training.recipe import RECIPES

pytestmark = pytest.mark.process

CLASSES = ("cherry", "leaf", "sky", "violet")

PROGRAM = Path(__file__).with_name("short_training.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    class_folders(folder / "photos", CLASSES, each=9)
    leaf = folder / "photos" / "leaf"
    shutil.copy(leaf / "leaf_0.png", leaf / "leaf_more.png")
    class_folders(folder / "val", CLASSES, each=4, seed=1)  # not a multiple of the number of ranks
    return folder


def arguments(folder: Path, name: str, *flags: str) -> list[str]:
    return ["--train", str(folder / "photos"), "--val", str(folder / "val"),
            "--output", str(folder / name), "--cache", str(folder / "cache"), *flags]  # fmt: skip


def start(*arguments: str, processes: int = 1) -> "subprocess.Popen[str]":
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    return subprocess.Popen(
        [*launcher, str(PROGRAM), *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def in_two_processes(folder: Path, name: str, *flags: str) -> Checkpoint:
    running = start(*arguments(folder, name, *flags), processes=2)
    log, _ = running.communicate(timeout=200)
    assert running.returncode == 0, log[-3000:]
    return Checkpoint.load(folder / name / "last.safetensors")


@pytest.fixture
def in_this_process(
    folder: Path, narrow: None, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Checkpoint]:
    """What one process alone trains."""

    def train(name: str, *flags: str) -> Checkpoint:
        monkeypatch.setattr("sys.argv", ["alexnet-train", *arguments(folder, name, *flags)])
        main()
        return Checkpoint.load(folder / name / "last.safetensors")

    for name, recipe in SHORT.items():
        monkeypatch.setitem(RECIPES, name, recipe)
    return train


def assert_close(one: Checkpoint, two: Checkpoint, rtol: float = 1e-3, atol: float = 1e-5) -> None:
    assert one.tensors.keys() == two.tensors.keys()
    torch.testing.assert_close(two.tensors, one.tensors, rtol=rtol, atol=atol)


def network(checkpoint: Checkpoint) -> Checkpoint:
    return Checkpoint({k: v for k, v in checkpoint.tensors.items() if k.startswith("network.")})


def test_two_processes_give_the_weights_of_one(
    folder: Path, in_this_process: Callable[..., Checkpoint]
) -> None:
    one = in_this_process("one", "--recipe", "smoke")
    two = in_two_processes(folder, "two", "--recipe", "smoke")
    assert_close(network(one), network(two), rtol=1e-4)
    measured = [name for name in one.tensors if name.startswith("pixels.")]
    assert len(measured) == 3
    assert all(torch.equal(one.tensors[name], two.tensors[name]) for name in measured)
    assert one.facts["step"] == two.facts["step"] == 2 * 3
    rows = [
        [json.loads(line) for line in (folder / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert rows[1][-1]["val_loss"] == pytest.approx(rows[0][-1]["val_loss"], rel=1e-4)
    for ours, theirs in zip(*rows, strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-4)
        assert (theirs["top1"], theirs["photos"]) == (ours["top1"], 16)


def test_two_processes_freeze_what_one_does(
    folder: Path, in_this_process: Callable[..., Checkpoint]
) -> None:
    """They compute the gradients, which they wait for, but do not use them."""
    one = in_this_process("alone", "--recipe", "modern")
    two = in_two_processes(folder, "both", "--recipe", "modern")
    assert_close(network(one), network(two), rtol=1e-4)


def test_ctrl_c_stops_all_processes_after_the_same_step(folder: Path) -> None:
    """The signal goes to torchrun, as from a terminal; the checkpoint can be resumed."""
    flags = ("--recipe", "smoke", "--epochs", "50")
    running = start(*arguments(folder, "stopped", *flags), processes=2)
    assert running.stdout is not None
    try:
        for line in running.stdout:
            if line.startswith("epoch 2/50: loss"):
                break
        running.send_signal(signal.SIGINT)
        log, _ = running.communicate(timeout=100)
    finally:
        running.kill()
    assert "--resume goes on" in log
    checkpoint = Checkpoint.load(folder / "stopped" / "last.safetensors")
    step = checkpoint.facts["step"]
    assert 2 * 3 <= step < 50 * 3
    following = step // 3 + 1
    alone = start(*arguments(folder, "stopped", *flags, "--resume"))  # one process goes on with it
    try:
        assert any(line.startswith(f"epoch {following}/50: loss") for line in alone.stdout or ())
    finally:
        alone.kill()
        alone.communicate()
    rows = (folder / "stopped" / "log.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows][:following] == [*range(1, following + 1)]


def test_two_columns_on_two_devices_are_the_network_on_one(
    folder: Path, in_this_process: Callable[..., Checkpoint]
) -> None:
    """With dropout, colour noise, and momentum: the whole recipe of 2012, for three steps."""
    one = in_this_process("whole", "--recipe", "2012")
    two = in_two_processes(folder, "columns", "--recipe", "2012", "--columns")
    # Rounding decides which of two almost equal pixels a pooling takes: gradients of up to 0.07.
    assert_close(one, two, atol=1e-4)
    models = [Checkpoint.load(folder / n / "model.safetensors") for n in ("whole", "columns")]
    assert models[0].facts["accuracy"] == models[1].facts["accuracy"]
    assert_close(models[0], models[1])
