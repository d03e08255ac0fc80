"""`alexnet-train` from the command line."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from training.__main__ import main
from training.checkpoint import Checkpoint

ROOT = Path(__file__).parents[2]


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "training", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_trains_the_real_network(photos: Path, run: Path) -> None:
    flags = ("--recipe", "smoke", "--epochs", "1", "--batch", "48", "--prune", "0.25")
    places = ("--output", run, "--cache", run / "cache")
    done = command("--train", photos / "train", "--val", photos / "val", *flags, *places)
    assert done.returncode == 0, done.stderr
    assert "48 photos of 4 classes; recipe smoke: alexnet-bn, 1 epochs on" in done.stderr
    assert "top-1" in done.stderr
    assert "images/s" in done.stderr
    assert f"wrote {run / 'model.safetensors'}" in done.stderr
    facts = Checkpoint.load(run / "model.safetensors").facts
    assert facts["recipe"]["epochs"] == 1
    assert facts["dense"]["photos"] == 20
    assert {p.name for p in run.iterdir()} == {
        "last.safetensors", "model.safetensors", "log.jsonl", "recipe.json", "environment.json",
        "tensorboard", "curves.png", "filters.png", "card.md", "cache",
    }  # fmt: skip
    assert "25% of the fully connected weights are zero" in (run / "card.md").read_text()
    again = command("--train", photos / "train", "--val", photos / "val", *places)
    assert again.returncode == 1
    assert "holds a run: go on with it (--resume)" in again.stderr


def test_the_commands_help_names_every_flag_and_recipe() -> None:
    done = command("--help")
    assert done.returncode == 0
    for word in (
        "--train",
        "--val",
        "--output",
        "--epochs",
        "--batch",
        "--resume",
        "--init",
        "plain",
    ):
        assert word in done.stdout


def test_an_absent_folder_ends_the_command_with_one_sentence(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    done = command("--train", absent, "--val", absent)
    assert done.returncode == 1
    assert (
        done.stderr
        == f"alexnet-train: {absent} is neither a directory nor a zip file nor a tar shard\n"
    )


def test_ctrl_c_tells_how_to_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.__main__.train", interrupted)
    monkeypatch.setattr("sys.argv", ["alexnet-train", "--train", "a", "--val", "b"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert "--resume goes on" in str(caught.value.code)
