"""The best network is kept beside the last, and patience ends a run that gets no better."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet.spec import Preprocess
from training.best import Best
from training.checkpoint import Checkpoint
from training.data import Dataset, load
from training.evaluate import Score
from training.importers import load_model
from training.loop import Training
from training.recipe import SMOKE
from training.validation import Outcome, Validation

RECIPE = replace(SMOKE, epochs=6, sparsity=0.0)
STORE = Preprocess(SMOKE.store, SMOKE.store)


@pytest.fixture
def train(photos: Path) -> Dataset:
    return load([photos / "train"], STORE)


def outcome(top1: float, loss: float = 1.0) -> Outcome:
    return Outcome(Score(top1, 1.0, 20), loss, np.eye(4, dtype=np.int64))


class Told(Training):
    """Validation says what the test wants, one value for each epoch."""

    accuracies: tuple[float, ...] = ()

    def _score(self, validation: Validation, epoch: int | None = None) -> Outcome:
        return outcome(self.accuracies[self.epoch - 1])


def weights(run: Path, name: str) -> torch.Tensor:
    return load_model(run / name).network.layers[7].weight


@pytest.mark.usefixtures("narrow")
def test_the_best_model_is_kept_and_the_last_is_the_result(
    photos: Path, train: Dataset, run: Path
) -> None:
    training = Told(RECIPE, train, run)
    training.accuracies = (0.3, 0.6, 0.5, 0.6, 0.4, 0.5)
    assert training.fit([photos / "val"]).top1 == 0.5
    best = Checkpoint.load(run / "best.safetensors")
    assert best.facts["best"] == {"epoch": 2, "loss": 1.0, "photos": None}
    assert best.facts["accuracy"]["top1"] == 0.6
    assert not torch.equal(weights(run, "best.safetensors"), weights(run, "model.safetensors"))


@pytest.mark.usefixtures("narrow")
def test_patience_ends_the_run_and_the_result_is_the_best(
    photos: Path, train: Dataset, run: Path
) -> None:
    training = Told(RECIPE, train, run)
    training.accuracies = (0.3, 0.6, 0.5, 0.6, 0.4, 0.5)
    assert training.fit([photos / "val"], patience=2).top1 == 0.6
    assert training.epoch == 4
    assert len((run / "log.jsonl").read_text().splitlines()) == 4
    assert torch.equal(weights(run, "best.safetensors"), weights(run, "model.safetensors"))
    facts = Checkpoint.load(run / "model.safetensors").facts
    assert (facts["accuracy"]["top1"], "best" in facts) == (0.6, False)
    assert training.outcome is not None
    assert training.outcome.confusion.tolist() == np.eye(4).tolist()

    again = Told(RECIPE, train, run)
    again.state.resume(run)
    assert again.fit([photos / "val"], patience=2).top1 == 0.6
    assert again.epoch == 4, "it is over"
    more = Told(RECIPE, train, run)
    more.accuracies = (0.3, 0.6, 0.5, 0.6, 0.4, 0.7)
    more.state.resume(run)
    assert more.fit([photos / "val"], patience=4).top1 == 0.7
    assert more.epoch == 6


@pytest.mark.usefixtures("narrow")
def test_only_a_pruned_network_is_the_best_of_a_run_that_prunes(
    photos: Path, train: Dataset, run: Path
) -> None:
    training = Told(replace(RECIPE, sparsity=0.5, pruning=(0.2, 0.5)), train, run)
    training.accuracies = (0.9, 0.8, 0.5, 0.6, 0.4, 0.5)
    training.fit([photos / "val"])
    best = load_model(run / "best.safetensors")
    assert best.facts["accuracy"]["top1"] == 0.6
    zeros = [(layer.weight == 0).float().mean().item() for layer in best.network.fully_connected]
    assert zeros == pytest.approx([0.5] * 3, abs=0.02)


@pytest.mark.usefixtures("narrow")
def test_epochs_of_smaller_photos_are_not_the_best(photos: Path, train: Dataset, run: Path) -> None:
    """They are scored at their own size, which nothing is served at."""
    training = Told(replace(RECIPE, sizes=((0, 64), (3, 72))), train, run)
    training.accuracies = (0.9, 0.8, 0.8, 0.5, 0.6, 0.4)
    training.fit([photos / "val"], patience=1)
    assert Checkpoint.load(run / "best.safetensors").facts["best"]["epoch"] == 5
    assert training.epoch == 6


def test_among_equals_the_smaller_loss_is_the_better(tmp_path: Path) -> None:
    best = Best(tmp_path, patience=2)
    for epoch, told in enumerate((outcome(0.5, 2.0), outcome(0.5, 1.5), outcome(0.5, 1.5)), 1):
        best.offer(epoch, told, lambda epoch=epoch: {"a": torch.tensor(epoch)})  # type: ignore[misc]
    assert (best.epoch, best.weights["a"].item()) == (2, 2)
    assert [best.is_over(epoch) for epoch in (2, 3, 4)] == [False, False, True]
    assert not Best(tmp_path, None).is_over(1000)
    assert not Best(tmp_path, 1).is_over(5), "there is none yet"


@pytest.mark.usefixtures("narrow")
def test_quick_epochs_are_not_saved_one_by_one(
    photos: Path, train: Dataset, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[str] = []
    save = Checkpoint.save

    def noted(self: Checkpoint, path: Path) -> None:
        saved.append(path.name)
        save(self, path)

    monkeypatch.setattr(Checkpoint, "save", noted)
    Training(RECIPE, train, run).fit([photos / "val"])
    assert saved == ["best.safetensors", "last.safetensors", "model.safetensors"]
    saved.clear()
    monkeypatch.setattr("training.loop.SAVE_S", 0.0)
    Training(RECIPE, train, run / "slow").fit([photos / "val"])
    assert saved.count("last.safetensors") == RECIPE.epochs


@pytest.mark.usefixtures("narrow")
def test_validation_says_where_the_photos_went_and_its_loss_is_that_of_training(
    photos: Path, train: Dataset, run: Path
) -> None:
    training = Training(RECIPE, train, run)
    validation = Validation(
        [photos / "val"], train.labels, training.loss.rows, training.ranks, training.part
    )
    told = validation(lambda crops: np.tile([0.0, 3.0, 0.0, 0.0], (len(crops), 1)), 64)
    assert told.confusion.tolist() == [[0, 5, 0, 0]] * 4
    assert (told.score.top1, told.score.photos) == (0.25, 20)
    logits = torch.tensor([[0.0, 3.0, 0.0, 0.0]]).expand(4, -1)
    expected = torch.nn.functional.cross_entropy(logits, training.loss.rows).item()
    assert told.loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("narrow")
def test_the_log_has_the_loss_of_both(photos: Path, train: Dataset, run: Path) -> None:
    Training(replace(RECIPE, epochs=1), train, run).fit([photos / "val"])
    (row,) = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert 0 < row["val_loss"] < 10
    assert 0 < row["loss"] < 10
