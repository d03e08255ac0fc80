"""A run that goes on where it stopped, to the same weights bit by bit, or says why not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alexnet.labels import Label, Labels
from alexnet.spec import Preprocess
from tests.training import Interrupted
from training.checkpoint import Checkpoint, CheckpointError
from training.data import Dataset, load
from training.importers import load_model
from training.loop import Training
from training.recipe import SMOKE

ROOT = Path(__file__).parents[2]
STORE = Preprocess(SMOKE.store, SMOKE.store)


@pytest.fixture
def train(photos: Path) -> Dataset:
    return load([photos / "train"], STORE)


def first(data: Dataset, count: int) -> Dataset:
    return Dataset(data.images[:count], data.targets[:count], data.labels)


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
@pytest.mark.parametrize("count", [33, 34, 47])
def test_a_run_with_a_smaller_last_batch_stops_and_resumes_to_the_same_weights(
    photos: Path, train: Dataset, run: Path, count: int
) -> None:
    """A single photo too many would have no variance: with batch norm it joins the batch before."""
    data = first(train, count)
    Training(SMOKE, data, run / "whole").fit([photos / "val"])
    stopped = Interrupted(SMOKE, data, run / "halves")
    stopped.at = 2
    with pytest.raises(KeyboardInterrupt):
        stopped.fit([photos / "val"])
    resumed = Training(SMOKE, data, run / "halves")
    resumed.state.resume(run / "halves")
    resumed.fit([photos / "val"])
    whole, halves = (Checkpoint.load(run / p / "last.safetensors") for p in ("whole", "halves"))
    assert whole.facts["step"] == halves.facts["step"] == len(resumed.batches) * SMOKE.epochs
    assert all(torch.equal(v, halves.tensors[k]) for k, v in whole.tensors.items())


@pytest.mark.usefixtures("narrow")
def test_a_run_with_a_best_network_is_not_resumed_with_other_validation_photos(
    photos: Path, train: Dataset, run: Path
) -> None:
    recipe = replace(SMOKE, sparsity=0.0)
    stopped = Interrupted(recipe, train, run)
    stopped.at = 3
    with pytest.raises(KeyboardInterrupt):
        stopped.fit([photos / "val"])
    assert (run / "best.safetensors").is_file()
    resumed = Training(recipe, train, run)
    resumed.state.resume(run)
    with pytest.raises(ValueError, match="was scored on other validation photos: name the same"):
        resumed.fit([photos / "train"])
    assert resumed.fit([photos / "val"]).photos == 20


@pytest.mark.usefixtures("narrow")
def test_a_run_of_an_earlier_version_is_refused(photos: Path, train: Dataset, run: Path) -> None:
    """It left out what is behind the last full batch, and counted its steps that way."""
    stopped = Interrupted(SMOKE, train, run)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit([photos / "val"])
    old = Checkpoint.load(run / "last.safetensors")
    del old.facts["data"]
    old.save(run / "last.safetensors")
    with pytest.raises(CheckpointError, match=f"made other batches; .*--init {run}"):
        Training(SMOKE, train, run).state.resume(run)


@pytest.mark.usefixtures("narrow")
def test_a_resumed_run_keeps_the_mean_image_and_the_colours_it_measured(
    photos: Path, train: Dataset, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(SMOKE, mean_image=True, colour_noise=0.1, sparsity=0.0)
    stopped = Interrupted(recipe, train, run)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit([photos / "val"])
    resumed = Training(recipe, train, run)
    resumed.state.resume(run)
    monkeypatch.setattr("training.loop.measure", None)  # it is not measured again
    image, kept = stopped.pixels.image, resumed.pixels.image
    assert image is not None
    assert kept is not None
    assert torch.equal(image, kept)
    assert torch.equal(stopped.pixels.components, resumed.pixels.components)
    assert torch.equal(stopped.pixels.deviations, resumed.pixels.deviations)
    assert 60 < image.mean() < 200


@pytest.mark.usefixtures("narrow")
def test_resuming_a_finished_run_scores_it_again(photos: Path, train: Dataset, run: Path) -> None:
    recipe = replace(SMOKE, epochs=1)
    result = Training(recipe, train, run).fit([photos / "val"])
    (run / "model.safetensors").unlink()
    again = Training(recipe, train, run)
    again.state.resume(run)
    assert again.fit([photos / "val"]) == result
    assert (run / "model.safetensors").exists()


def test_a_folder_without_a_run_cannot_be_resumed(train: Dataset, run: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        Training(SMOKE, train, run).state.resume(run)


@pytest.mark.usefixtures("narrow")
def test_a_run_of_another_recipe_or_of_other_classes_is_not_resumed(
    photos: Path, train: Dataset, run: Path
) -> None:
    recipe = replace(SMOKE, epochs=1)
    Training(recipe, train, run).fit([photos / "val"])
    with pytest.raises(ValueError, match=r"another recipe \(there and here: seed 2012 and 1\)"):
        Training(replace(recipe, seed=1), train, run).state.resume(run)
    more = Dataset(train.images, train.targets, Labels((*train.labels.rows, Label("x", "x"))))
    with pytest.raises(ValueError, match=r"other classes \(new x\); .* --init"):
        Training(recipe, more, run).state.resume(run)
    with pytest.raises(ValueError, match=r"another recipe \(there and here: epochs 1 and 2\)"):
        Training(replace(recipe, epochs=2), train, run).state.resume(run)


@pytest.mark.usefixtures("narrow")
def test_a_run_on_other_photos_is_not_resumed(photos: Path, train: Dataset, run: Path) -> None:
    recipe = replace(SMOKE, epochs=1)
    Training(recipe, train, run).fit([photos / "val"])
    fewer = Dataset(train.images[:40], train.targets[:40], train.labels)
    with pytest.raises(ValueError, match=r"on other photos \(48 then, 40 now\)"):
        Training(recipe, fewer, run).state.resume(run)
    darker = Dataset(train.images // 2, train.targets, train.labels)
    with pytest.raises(ValueError, match="on other photos, though as many"):
        Training(recipe, darker, run).state.resume(run)


@pytest.mark.usefixtures("narrow")
def test_a_run_with_norms_can_start_from_plain_weights(
    photos: Path, train: Dataset, run: Path
) -> None:
    first = Training(replace(SMOKE, arch="alexnet", sparsity=0.0), train, run)
    first.fit([photos / "val"])
    plain = load_model(run / "model.safetensors").network
    second = Training(replace(SMOKE, dropout=0.0), train, run / "second")
    second.state.init(run / "model.safetensors")
    x = torch.from_numpy((train.images.astype("float32") - 128) / 64).permute(0, 3, 1, 2)
    with torch.inference_mode():
        torch.testing.assert_close(second.network.eval()(x), plain(x), rtol=1e-3, atol=1e-3)
