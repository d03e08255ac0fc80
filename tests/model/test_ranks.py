"""Several processes train the same network as one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.paths import ROOT
from tests.photos import class_folders
from training.checkpoint import Checkpoint

CLASSES = ("cherry", "leaf", "sky", "violet")

# The command with 64 hidden units and a recipe of a few steps, in float32 so that sums agree.
PROGRAM = """
import sys
from dataclasses import replace
import torch
import training.network
from training.recipe import DEXP, RECIPES, SMOKE
from training.__main__ import main
torch.set_num_threads(1)
training.network.HIDDEN = 64
RECIPES["smoke"] = replace(SMOKE, arch="alexnet", dropout=0.0, precision="fp32", sparsity=0.0)
RECIPES["2012"] = replace(DEXP, name="2012", epochs=1, batch=16, view=(0.9, 0.9), store=256)
main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    class_folders(folder / "photos", CLASSES, each=9)
    class_folders(folder / "val", CLASSES, each=4, seed=1)  # not a multiple of the number of ranks
    return folder


def start(folder: Path, name: str, *flags: str, processes: int = 1) -> "subprocess.Popen[str]":
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    program = folder / "program.py"
    program.write_text(PROGRAM)
    return subprocess.Popen(
        [*launcher, str(program), "--train", str(folder / "photos"), "--val", str(folder / "val"),
         "--output", str(folder / name), "--cache", str(folder / "cache"), *flags],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def train(folder: Path, name: str, *flags: str, processes: int = 1) -> Checkpoint:
    running = start(folder, name, *flags, processes=processes)
    log, _ = running.communicate(timeout=200)
    assert running.returncode == 0, log[-3000:]
    return Checkpoint.load(folder / name / "last.safetensors")


def assert_equal(one: Checkpoint, two: Checkpoint, rtol: float, atol: float) -> None:
    assert one.tensors.keys() == two.tensors.keys()
    torch.testing.assert_close(two.tensors, one.tensors, rtol=rtol, atol=atol)


def test_two_processes_give_the_weights_of_one(folder: Path) -> None:
    one = train(folder, "one", "--recipe", "smoke")
    two = train(folder, "two", "--recipe", "smoke", processes=2)
    assert_equal(
        Checkpoint({k: v for k, v in one.tensors.items() if k.startswith("network.")}),
        Checkpoint({k: v for k, v in two.tensors.items() if k.startswith("network.")}),
        rtol=1e-4, atol=1e-5,
    )  # fmt: skip
    rows = [
        [json.loads(line) for line in (folder / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    for ours, theirs in zip(*rows, strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-4)
        assert (theirs["top1"], theirs["photos"]) == (ours["top1"], 16)


def test_ctrl_c_stops_all_processes_after_the_same_step(folder: Path) -> None:
    """The signal goes to torchrun, as from a terminal; the checkpoint can be resumed."""
    flags = ("--recipe", "smoke", "--epochs", "50")
    running = start(folder, "stopped", *flags, processes=2)
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
    assert 2 * 2 <= step < 50 * 2
    following = step // 2 + 1
    alone = start(folder, "stopped", *flags, "--resume")  # in a single process
    try:
        assert any(line.startswith(f"epoch {following}/50: loss") for line in alone.stdout or ())
    finally:
        alone.kill()
        alone.communicate()
    rows = (folder / "stopped" / "log.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows][:following] == [*range(1, following + 1)]


def test_two_columns_on_two_devices_give_the_weights_of_one_device(folder: Path) -> None:
    """With dropout, colour noise, and momentum: the whole recipe of 2012, for two steps."""
    one = train(folder, "whole", "--recipe", "2012")
    two = train(folder, "columns", "--recipe", "2012", "--columns", processes=2)
    assert_equal(one, two, rtol=1e-3, atol=1e-5)
    models = [Checkpoint.load(folder / n / "model.safetensors") for n in ("whole", "columns")]
    assert models[0].facts["accuracy"] == models[1].facts["accuracy"]
    assert_equal(models[0], models[1], rtol=1e-3, atol=1e-5)
