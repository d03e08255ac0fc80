import errno
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from training import report
from training.checkpoint import Checkpoint
from training.evaluate import Score
from training.recipe import SMOKE, Recipe
from training.report import RunLog, describe_environment, format_card, git_commit
from training.validation import Outcome

FACTS: dict[str, Any] = {
    "arch": "alexnet",
    "recipe": SMOKE.to_json(),
    "lineage": ["starter", "smoke"],
    "labels": "index\tsynset\tnames\n"
    + "".join(f"{i}\tn{i}\t{name}, a name\n" for i, name in enumerate("abcdefg")),
    "known": [0, 1, 2, 3, 4, 5],
    "photos": 100_000,
    "skipped": 3,
    "accuracy": {"top1": 0.4567, "top5": 0.7234, "photos": 10_000},
    "dense": None,
    "crop": 224,
    "train_minutes": 71.5,
    "commit": "abc1234",
}
TIMES = {"seconds": 9.5, "waited": 0.1}
ROWS: list[dict[str, Any]] = [
    {"epoch": 1, "loss": 4.5, "val_loss": 4.25, "top1": 0.1, "top5": 0.3, **TIMES},
    {"epoch": 2, "loss": 3.5, "val_loss": 3.25, "top1": 0.4567, "top5": 0.7234, **TIMES},
]
CONFUSION = np.diag([4, 4, 4, 4, 4, 4, 0])
CONFUSION[2] = [3, 0, 1, 0, 0, 0, 0]
OUTCOME = Outcome(Score(0.4567, 0.7234, 10_000), 3.25, CONFUSION)


def model() -> Checkpoint:
    torch.manual_seed(0)
    tensors = {
        "network.features.0.weight": torch.randn(64, 3, 11, 11),
        "network.features.0.bias": torch.zeros(64),
    }
    return Checkpoint(tensors, FACTS)


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    return {
        tag: [(event.step, round(event.value, 5)) for event in board.Scalars(tag)]
        for tag in board.Tags()["scalars"]
    }


def log_two_epochs(run: Path, *, active: bool = True) -> None:
    with RunLog(run, SMOKE, active=active) as log:
        for row in ROWS:
            log.step(10 * row["epoch"] - 5, row["loss"], 0.25, 0.3, 512.0)
            log.epoch(row, 10 * row["epoch"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of two epochs."""
    run = tmp_path_factory.mktemp("report") / "deep" / "run"
    log_two_epochs(run)
    RunLog(run, SMOKE).finish(model(), 6, OUTCOME)
    return run


def test_a_finished_run_leaves_these_files(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {
        "recipe.json", "environment.json", "log.jsonl", "tensorboard",
        "curves.png", "confusion.png", "filters.png", "card.md",
    }  # fmt: skip
    for name in ("curves.png", "confusion.png", "filters.png"):
        with Image.open(run / name) as image:
            assert image.format == "PNG"


def test_the_log_has_a_line_for_each_epoch(run: Path) -> None:
    assert [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] == ROWS


def test_the_recipe_can_be_read_again(run: Path) -> None:
    assert Recipe.from_json(json.loads((run / "recipe.json").read_text())) == SMOKE


def test_the_environment_lists_machine_and_versions(run: Path) -> None:
    found = json.loads((run / "environment.json").read_text())
    assert found == json.loads(json.dumps(describe_environment()))
    assert found["packages"]["torch"] == str(torch.__version__)
    assert found["cpus"] >= 1
    assert found["processes"] == 1


def test_tensorboard_shows_training_and_validation(run: Path) -> None:
    assert scalars(run) == {
        "train/loss": [(5, 4.5), (15, 3.5)],
        "train/top1": [(5, 0.25), (15, 0.25)],
        "train/learning_rate": [(5, 0.3), (15, 0.3)],
        "train/images_per_s": [(5, 512.0), (15, 512.0)],
        "validation/loss": [(10, 4.25), (20, 3.25)],
        "validation/top1": [(10, 0.1), (20, 0.4567)],
        "validation/top5": [(10, 0.3), (20, 0.7234)],
    }


def test_tensorboard_shows_the_filters(run: Path) -> None:
    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    (image,) = board.Images("conv1")
    assert (image.width, image.height) == (16 * 12 + 1, 4 * 12 + 1)


def test_a_resumed_run_appends_to_its_log(tmp_path: Path) -> None:
    log_two_epochs(tmp_path)
    with RunLog(tmp_path, SMOKE) as log:
        log.epoch({**ROWS[1], "epoch": 3}, 30)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    assert [step for step, _ in scalars(tmp_path)["validation/top1"]] == [10, 20, 30]


def test_an_epoch_that_is_done_again_replaces_its_line_and_the_later_ones(tmp_path: Path) -> None:
    log_two_epochs(tmp_path)
    with RunLog(tmp_path, SMOKE) as log:
        log.epoch({**ROWS[0], "loss": 1.0}, 10)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{**ROWS[0], "loss": 1.0}]


def test_a_line_that_does_not_fit_on_the_disk_leaves_the_old_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_two_epochs(tmp_path)

    def full(path: Path, text: str, encoding: str) -> None:
        path.write_bytes(text.encode(encoding)[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with RunLog(tmp_path, SMOKE) as log, monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space left"):
            log.epoch({**ROWS[1], "epoch": 3}, 30)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2
    assert not list(tmp_path.glob(".*"))


def test_an_inactive_or_empty_log_writes_nothing(tmp_path: Path) -> None:
    log_two_epochs(tmp_path / "inactive", active=False)
    with RunLog(tmp_path / "empty", SMOKE):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_card_lists_figures_and_plots(run: Path) -> None:
    text = (run / "card.md").read_text()
    for words in (
        "# smoke: alexnet, 6 classes",
        "top-1 45.7%, top-5 72.3% of 10,000 validation photos (central crop, 224 px)",
        "c           4   25.0%  a 3", "](confusion.png)",
        "Trained on 100,000 photos (3 could not be read), 71.5 minutes with the runs "
        "before, commit abc1234",
        "starter, smoke", "](curves.png)", "](filters.png)",
    ):  # fmt: skip
        assert words in text
    assert all((run / name).exists() for name in ("environment.json", "recipe.json", "log.jsonl"))


def test_the_curves_are_called_after_the_run_its_classes_and_its_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[Any, ...]] = []
    monkeypatch.setattr("training.report.plot_curves", lambda *given: drawn.append(given))
    log_two_epochs(tmp_path / "pets")
    RunLog(tmp_path / "pets", SMOKE).finish(model(), 6, OUTCOME)
    curves = tmp_path / "pets" / "curves.png"
    assert drawn == [(ROWS, "pets: 6 classes, recipe smoke", curves, 6)]


def test_the_card_tells_the_minutes_of_this_run_from_those_before() -> None:
    card = format_card({**FACTS, "run_minutes": 0.8})
    assert "100,000 photos (3 could not be read), 0.8 minutes (71.5 with the runs before)" in card


def test_five_guesses_among_five_classes_are_not_listed() -> None:
    card = format_card({**FACTS, "known": [0, 1, 2], "dense": FACTS["accuracy"]})
    assert "top-1 45.7% of 10,000 validation photos" in card
    assert "top-5" not in card


def test_the_card_tells_labels_and_a_teachers_answers_apart() -> None:
    assert "teacher" not in format_card(FACTS)
    taught = {"teacher": "lite0", "photos": 330_000, "classes": [3, 4, 7]}
    text = format_card({**FACTS, "taught": taught})
    assert "# smoke: alexnet, 6 classes and 3 more from a teacher\n" in text
    assert (
        "\n- Taught by lite0: its answers to 330,000 photos; 3 classes are known "
        "from its answers only\n- Recipes" in text
    )
    text = format_card({**FACTS, "taught": {**taught, "classes": []}})
    assert "# smoke: alexnet, 6 classes\n" in text
    assert "\n- Taught by lite0: its answers to 330,000 photos\n- Rec" in text


def test_the_card_mentions_pruning_only_if_there_was_some() -> None:
    assert "prun" not in format_card(FACTS).lower()
    pruned = format_card({**FACTS, "dense": {"top1": 0.4412, "top5": 0.71, "photos": 10_000}})
    assert "50% of the fully connected weights are zero" in pruned
    assert "When pruning began: top-1 44.1%, top-5 71.0%." in pruned


def checkout(folder: Path) -> str:
    """A repository with one commit, whose short name is returned."""
    who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    for arguments in (
        ("init", "--quiet"),
        (*who, "commit", "--quiet", "--allow-empty", "--message", "first"),
    ):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    shown = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=folder, text=True)
    return shown.strip()


@pytest.mark.parametrize(("place", "known"), [("training", True), (".venv/lib/training", False)])
def test_the_commit_is_that_of_this_checkout_and_not_of_a_repository_around_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str, known: bool
) -> None:
    package = tmp_path / place
    package.mkdir(parents=True)
    commit = checkout(tmp_path)
    monkeypatch.setattr(report, "__file__", str(package / "report.py"))
    assert git_commit() == (commit if known else "unknown")


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit() == "unknown"
