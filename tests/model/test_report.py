import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from training.checkpoint import Checkpoint
from training.recipe import SMOKE, Recipe
from training.report import RunLog, describe_environment, format_card

FACTS: dict[str, Any] = {
    "arch": "alexnet",
    "recipe": SMOKE.to_json(),
    "lineage": ["starter", "smoke"],
    "known": [0, 1, 2, 5],
    "photos": 100_000,
    "skipped": 3,
    "accuracy": {"top1": 0.4567, "top5": 0.7234, "photos": 10_000},
    "dense": None,
    "crop": 224,
    "train_minutes": 71.5,
    "commit": "abc1234",
}
ROWS: list[dict[str, Any]] = [
    {"epoch": 1, "loss": 4.5, "top1": 0.1, "top5": 0.3, "seconds": 9.5, "waited": 0.1},
    {"epoch": 2, "loss": 3.5, "top1": 0.4567, "top5": 0.7234, "seconds": 9.0, "waited": 0.2},
]


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
    RunLog(run, SMOKE).finish(model(), 6)
    return run


def test_a_finished_run_leaves_these_files(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {
        "recipe.json", "environment.json", "log.jsonl", "tensorboard",
        "curves.png", "filters.png", "card.md",
    }  # fmt: skip
    for name in ("curves.png", "filters.png"):
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


def test_an_inactive_or_empty_log_writes_nothing(tmp_path: Path) -> None:
    log_two_epochs(tmp_path / "inactive", active=False)
    with RunLog(tmp_path / "empty", SMOKE):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_card_lists_figures_and_plots(run: Path) -> None:
    text = (run / "card.md").read_text()
    for words in (
        "# smoke: alexnet, 4 classes",
        "45.7% top-1 and 72.3% top-5 of 10,000 validation photos (central crop, 224 px)",
        "Trained on 100,000 photos (3 could not be read), 71.5 minutes, commit abc1234",
        "starter, smoke", "](curves.png)", "](filters.png)",
    ):  # fmt: skip
        assert words in text
    assert all((run / name).exists() for name in ("environment.json", "recipe.json", "log.jsonl"))


def test_the_card_mentions_pruning_only_if_there_was_some() -> None:
    assert "prun" not in format_card(FACTS).lower()
    pruned = format_card({**FACTS, "dense": {"top1": 0.4412, "top5": 0.71, "photos": 10_000}})
    assert "50% of the fully connected weights are zero" in pruned
    assert "When pruning began: 44.1% top-1, 71.0% top-5" in pruned
