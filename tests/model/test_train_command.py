"""`alexnet-train` from the command line."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.photos import png
from training.__main__ import main
from training.checkpoint import Checkpoint
from training.loader import Order
from training.loop import Training

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.process


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
        "tensorboard", "curves.png", "confusion.png", "filters.png", "card.md", "cache",
        "best.safetensors",
    }  # fmt: skip
    assert "25% of the fully connected weights are zero" in (run / "card.md").read_text()
    assert "top-5" not in done.stderr, "five guesses among four classes are always right"
    assert "class   photos   top-1  taken for\n" in done.stderr
    assert "disk: " in done.stderr
    assert f"{run / 'model.safetensors'} --photos {photos / 'train'} --val {photos / 'val'}" in (
        done.stderr
    )
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
    assert done.stderr == f"alexnet-train: there is no {absent}\n"


@pytest.mark.skipif(not shutil.which("make"), reason="make is not on this machine")
def test_make_train_is_the_command_with_its_arguments() -> None:
    told = subprocess.run(
        ["make", "--dry-run", "train", "ARGS=photos/"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ".venv/bin/alexnet-train photos/" in told.stdout.splitlines()


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> str:
    """What the command ends with; nothing if all went well."""
    monkeypatch.setattr("sys.argv", ["alexnet-train", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return str(end.code)
    return ""


@pytest.mark.usefixtures("narrow")
def test_photos_alone_are_split_and_the_run_is_called_after_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.chdir(tmp_path)
    flags = ("--recipe", "smoke", "--epochs", "1")
    assert run_main(monkeypatch, photos / "train", *flags) == ""
    assert "40 photos of 4 classes" in caplog.text, "of 12 of each class, 2 are held out"
    model = Checkpoint.load(tmp_path / "runs" / photos.name / "model.safetensors")
    assert model.facts["accuracy"]["photos"] == 8
    assert "--val-fraction 0.2 --output models/" in caplog.text


@pytest.mark.usefixtures("narrow")
def test_train_and_val_in_the_folder_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_main(monkeypatch, photos, "--recipe", "smoke", "--epochs", "1") == ""
    model = Checkpoint.load(tmp_path / "runs" / photos.name / "model.safetensors")
    assert (model.facts["photos"], model.facts["accuracy"]["photos"]) == (48, 20)


@pytest.mark.usefixtures("narrow")
def test_a_run_that_was_stopped_in_its_first_epoch_is_not_overwritten(
    run: Path, monkeypatch: pytest.MonkeyPatch, photos: Path
) -> None:
    class Impatient(Training):
        def _orders(self, epoch: int) -> Iterator[Sequence[Order]]:
            os.kill(os.getpid(), signal.SIGINT)
            return super()._orders(epoch)

    flags = (photos, "--recipe", "smoke", "--output", run, "--cache", run / "cache")
    with monkeypatch.context() as stopped:
        stopped.setattr("training.run.Training", Impatient)
        assert "--resume goes on" in run_main(monkeypatch, *flags)
    assert not (run / "log.jsonl").exists()
    before = (run / "last.safetensors").read_bytes()
    assert "holds a run: go on with it (--resume)" in run_main(monkeypatch, *flags)
    assert (run / "last.safetensors").read_bytes() == before
    assert run_main(monkeypatch, *flags, "--resume") == ""
    assert Checkpoint.load(run / "last.safetensors").facts["step"] == 6


@pytest.mark.usefixtures("narrow")
def test_a_run_goes_on_with_its_own_recipe_and_photos_only(
    run: Path, monkeypatch: pytest.MonkeyPatch, photos: Path
) -> None:
    places = ("--output", run, "--cache", run / "cache")
    flags = (photos, "--recipe", "smoke", "--epochs", "1", *places)
    assert run_main(monkeypatch, *flags) == ""
    assert run_main(monkeypatch, photos, *places, "--resume") == "", "the folder has the recipe"
    other = run_main(monkeypatch, photos, *places, "--resume", "--epochs", "2")
    assert "of another recipe (there and here: epochs 1 and 2)" in other
    others = run_main(monkeypatch, photos / "train", *places, "--resume")
    assert "on other photos (48 then, 40 now)" in others


def test_a_stop_before_the_first_step_says_that_there_is_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.run.train", interrupted)
    message = run_main(monkeypatch, "a", "--output", tmp_path / "run")
    assert "stopped before the first step: there is nothing to go on from" in message


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("what", ["cache", "checkpoint"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path, what: str
) -> None:
    """A limit on the size of files stands for a full disk."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    flags = ("--recipe", "smoke", "--output", tmp_path / "run", "--cache", tmp_path / "cache")
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000 if what == "cache" else 900_000, limit[1]))
    try:
        message = run_main(monkeypatch, photos, *flags)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "File too large" in message
    assert "\n" not in message
    left = [
        p.name for p in tmp_path.rglob("*") if p.name.endswith(".tmp") or "unfinished" in p.name
    ]
    assert left == []
    assert not (tmp_path / "run" / "last.safetensors").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--epochs", "0"), "--epochs 0: at least 1 is needed"),
        (("--batch", "1"), "--batch 1: at least 2 is needed for batch norm"),
        (("--val-fraction", "2"), "--val-fraction 2.0 is no fraction between 0 and 1"),
        (("--lr", "-1"), "--lr -1.0 is no learning rate"),
        (("--init", "absent.pth"), "there are no weights at absent.pth"),
        (("--resume",), "there is no checkpoint at"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path, flags: tuple[str, ...],
    message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    recipe = () if "--init" in flags else ("--recipe", "smoke")
    assert message in run_main(monkeypatch, photos / "train", *recipe, *flags)
    assert list(tmp_path.iterdir()) == []


def test_a_flat_folder_is_one_sentence_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flat").mkdir()
    for i in range(24):
        (tmp_path / "flat" / f"IMG{i}.png").write_bytes(png(8, 8, seed=i))
    message = run_main(monkeypatch, "flat", "--recipe", "smoke")
    assert message.startswith("alexnet-train: flat holds 24 photos of 24 classes: put the photos")
    assert "\n" not in message
    assert [path.name for path in tmp_path.iterdir()] == ["flat"]


@pytest.mark.usefixtures("narrow")
def test_a_rate_that_is_far_too_high_is_one_sentence_that_names_the_option(
    run: Path, monkeypatch: pytest.MonkeyPatch, photos: Path
) -> None:
    flags = ("--recipe", "smoke", "--epochs", "20", "--lr", "9.9")
    message = run_main(monkeypatch, photos, *flags, "--output", run, "--cache", run / "cache")
    assert re.fullmatch(
        r"alexnet-train: the loss is \S+ in epoch \d+: pass a lower --lr "
        r"\(the highest rate is 9\.9\)",
        message,
    ), message


def test_a_wrong_path_under_torchrun_is_one_sentence_of_the_first_process(tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d")
    done = subprocess.run(
        [sys.executable, *launcher, "--rdzv-endpoint", "localhost:0", "-m", "training",
         str(tmp_path / "absent")],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count(f"alexnet-train: there is no {tmp_path / 'absent'}\n") == 1
    assert "training/" not in done.stderr, "no traceback of ours; torchrun has its own"
