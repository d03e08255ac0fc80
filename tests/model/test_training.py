import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alexnet.labels import Label, Labels
from alexnet.spec import Preprocess
from training.checkpoint import Checkpoint, CheckpointError
from training.data import Dataset, load
from training.evaluate import evaluate
from training.loader import Order
from training.loop import Training
from training.network import AlexNet, Deployable
from training.ranks import Ranks
from training.recipe import SMOKE, Recipe

ROOT = Path(__file__).parents[2]
STORE = Preprocess(SMOKE.store, SMOKE.store)


@pytest.fixture
def train(photos: Path) -> Dataset:
    return load([photos / "train"], STORE)


class Interrupted(Training):
    """Gets a real SIGINT while step `at` is prepared."""

    at = 0

    def _orders(self, epoch: int) -> Iterator[Order]:
        for order in super()._orders(epoch):
            if self.state.step == self.at:
                os.kill(os.getpid(), signal.SIGINT)
            yield order


@pytest.mark.usefixtures("narrow")
def test_the_smoke_recipe_learns_colours_and_writes_a_model(photos: Path, run: Path) -> None:
    recipe = replace(SMOKE, epochs=8)
    training = Training(recipe, load([photos / "train"], STORE), run)
    result = training.fit([photos / "val"])
    assert result.top1 >= 0.75
    assert result.photos == 20

    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 9))
    assert rows[-1]["top1"] == result.top1
    assert rows[-1]["loss"] < rows[0]["loss"]

    model = Checkpoint.load(run / "model.safetensors")
    assert Recipe.from_json(model.facts["recipe"]) == recipe
    assert Labels.from_tsv(model.facts["labels"]) == training.data.labels
    assert (model.facts["arch"], model.facts["known"]) == ("alexnet", [0, 1, 2, 3])
    assert (model.facts["photos"], model.facts["accuracy"]) == (48, result._asdict())

    network = AlexNet(4)
    network.load_state_dict(model.part("network"))
    sparsity = [(layer.weight == 0).float().mean().item() for layer in network.fully_connected]
    assert sparsity == pytest.approx([0.5] * 3, abs=0.01)

    deployable = Deployable(network, tuple(model.facts["mean"]), tuple(model.facts["std"])).eval()
    val = load([photos / "val"], Preprocess().at(64), training.data.labels)
    with torch.inference_mode():
        plain = evaluate(lambda crops: deployable(torch.from_numpy(crops)).numpy(), val)
    assert plain.top1 == pytest.approx(result.top1, abs=0.1)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_resumed_run_gives_bitwise_the_weights_of_an_uninterrupted_one(
    photos: Path, train: Dataset, run: Path, at: int
) -> None:
    """Stopped in the middle of an epoch, in its last step, and in the first of the next."""
    recipe = replace(SMOKE, filters=("bilinear", "nearest"), sharpness=0.5, grain=20.0)
    Training(recipe, train, run / "whole").fit([photos / "val"])
    stopped = Interrupted(recipe, train, run / "halves")
    stopped.at = at
    with pytest.raises(KeyboardInterrupt):
        stopped.fit([photos / "val"])
    resumed = Training(recipe, train, run / "halves")
    resumed.state.resume(run / "halves")
    assert resumed.state.step == at + 1
    resumed.fit([photos / "val"])

    for name in ("last.safetensors", "model.safetensors"):
        whole, halves = (Checkpoint.load(run / part / name) for part in ("whole", "halves"))
        assert whole.tensors.keys() == halves.tensors.keys()
        differ = [k for k, v in whole.tensors.items() if not torch.equal(v, halves.tensors[k])]
        assert differ == []
    losses = [
        [json.loads(line)["loss"] for line in (run / part / "log.jsonl").read_text().splitlines()]
        for part in ("whole", "halves")
    ]
    assert len(losses[0]) == 2
    assert losses[0] == losses[1]


@pytest.mark.usefixtures("narrow")
def test_resuming_a_finished_run_scores_it_again(photos: Path, train: Dataset, run: Path) -> None:
    recipe = replace(SMOKE, epochs=1)
    result = Training(recipe, train, run).fit([photos / "val"])
    (run / "model.safetensors").unlink()
    again = Training(recipe, train, run)
    again.state.resume(run)
    assert again.fit([photos / "val"]) == result
    assert (run / "model.safetensors").exists()


@pytest.mark.usefixtures("narrow")
def test_a_run_can_start_from_the_weights_of_another(
    photos: Path, train: Dataset, run: Path
) -> None:
    first = Training(replace(SMOKE, epochs=1), train, run)
    first.fit([photos / "val"])
    second = Training(replace(SMOKE, epochs=3, seed=5), train, run / "second")
    second.state.init(run / "last.safetensors")
    weights = zip(first.network.parameters(), second.network.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)
    assert (second.epoch, second.state.optimizer.state) == (0, {})
    assert second.state.lineage == ["smoke", "smoke"]
    assert second.state.seconds == first.state.seconds
    assert second.fit([photos / "val"]).photos == 20
    with pytest.raises(CheckpointError, match="does not fit"):
        Training(replace(SMOKE, arch="alexnet"), train, run).state.init(run / "last.safetensors")


def test_a_folder_without_a_run_cannot_be_resumed(train: Dataset, run: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        Training(SMOKE, train, run).state.resume(run)


@pytest.mark.usefixtures("narrow")
def test_a_run_of_another_recipe_or_of_other_classes_is_not_resumed(
    photos: Path, train: Dataset, run: Path
) -> None:
    recipe = replace(SMOKE, epochs=1)
    Training(recipe, train, run).fit([photos / "val"])
    with pytest.raises(ValueError, match="another recipe"):
        Training(replace(recipe, seed=1), train, run).state.resume(run)
    more = Dataset(train.images, train.targets, Labels((*train.labels.rows, Label("x", "x"))))
    with pytest.raises(ValueError, match="classes"):
        Training(recipe, more, run).state.resume(run)


@pytest.mark.usefixtures("narrow")
def test_a_loss_that_is_not_finite_stops_the_run_and_saves_nothing(
    photos: Path, train: Dataset, run: Path
) -> None:
    training = Training(SMOKE, train, run)
    with torch.no_grad():
        training.network.layers[-1].weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="loss is nan in epoch 1: lower the learning rate"):
        training.fit([photos / "val"])
    assert not run.exists()


@pytest.mark.usefixtures("narrow")
def test_classes_without_photos_have_a_target_of_zero(train: Dataset, run: Path) -> None:
    labels = Labels((*train.labels.rows, Label("moon", "moon")))
    targets = Training(SMOKE, Dataset(train.images, train.targets, labels), run).targets
    assert targets[:4].sum(1).tolist() == pytest.approx([1.0] * 4)
    assert targets[:4, 4].tolist() == [0.0] * 4
    assert targets[0].tolist() == pytest.approx([0.925, 0.025, 0.025, 0.025, 0.0])


@pytest.mark.usefixtures("narrow")
def test_fewer_photos_than_a_batch_are_an_error(train: Dataset, run: Path) -> None:
    few = Dataset(train.images[:15], train.targets[:15], train.labels)
    with pytest.raises(ValueError, match="15 photos are fewer than one batch of 16"):
        Training(SMOKE, few, run)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(
    ("settings", "ranks", "message"),
    [
        ({}, 3, "a batch of 16 cannot be shared by 3 processes"),
        ({"bf16_gradients": True}, 1, "between several GPUs only"),
        ({"columns": True}, 2, "columns cannot be pruned"),
    ],
)
def test_impossible_settings_are_refused_at_once(
    train: Dataset, run: Path, settings: dict[str, bool], ranks: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Training(SMOKE, train, run, Ranks(torch.device("cpu"), 0, ranks), **settings)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(
    ("arch", "ranks", "message"),
    [
        ("alexnet", 2, "alexnet has no columns"),
        ("alexnet2012", 3, "columns need 2 processes; this run has 3"),
    ],
)
def test_columns_need_two_processes_and_a_network_with_columns(
    train: Dataset, run: Path, arch: str, ranks: int, message: str
) -> None:
    recipe = replace(SMOKE, arch=arch, sparsity=0.0)
    with pytest.raises(ValueError, match=message):
        Training(recipe, train, run, Ranks(torch.device("cpu"), 0, ranks), columns=True)
