import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from alexnet.labels import Labels
from alexnet.spec import Preprocess
from training.checkpoint import Checkpoint, CheckpointError
from training.data import Dataset, load
from training.evaluate import evaluate
from training.importers import load_model
from training.loop import Training
from training.network import AlexNet, Deployable
from training.ranks import Ranks
from training.recipe import RECIPES, SMOKE, Recipe

ROOT = Path(__file__).parents[2]
STORE = Preprocess(SMOKE.store, SMOKE.store)


@pytest.fixture
def train(photos: Path) -> Dataset:
    return load([photos / "train"], STORE)


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
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_takes_a_step(photos: Path, run: Path, train: Dataset, name: str) -> None:
    """On small photos in batches of half of them; the second step of a linear rate has none."""
    recipe = replace(RECIPES[name], epochs=1, batch=24, sizes=((0, 64),), store=SMOKE.store)
    training = Training(recipe, train, run)
    before = [layer.weight.clone() for layer in training.network.layers]
    training.fit([photos / "val"])
    row = json.loads((run / "log.jsonl").read_text())
    assert math.isfinite(row["loss"])
    assert math.isfinite(row["val_loss"])
    kept = recipe.kept if recipe.frozen else 0
    for i, (layer, weight) in enumerate(zip(training.network.layers, before, strict=True)):
        assert layer.weight.isfinite().all()
        assert torch.equal(layer.weight, weight) == (i < kept)


def first(data: Dataset, count: int) -> Dataset:
    return Dataset(data.images[:count], data.targets[:count], data.labels)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("arch", ["alexnet", "alexnet-bn"])
@pytest.mark.parametrize("count", [33, 40, 48])
def test_every_photo_is_trained_on_in_every_epoch(
    train: Dataset, run: Path, arch: str, count: int
) -> None:
    training = Training(replace(SMOKE, arch=arch), first(train, count), run)
    for epoch in range(2):
        training.state.step = epoch * len(training.batches)
        orders = list(training._orders(epoch))
        assert len(orders) == len(training.batches)
        assert sorted(i for (order,) in orders for i in order.index.tolist()) == list(range(count))
        assert all(len(order.index) == len(order.views.tops) for (order,) in orders)


@pytest.mark.usefixtures("narrow")
def test_the_loss_of_an_epoch_is_the_mean_over_its_photos(
    photos: Path, train: Dataset, run: Path
) -> None:
    """With a rate of 0 the weights stay, so that it can be computed from all photos at once."""
    recipe = replace(
        SMOKE, arch="alexnet", epochs=1, dropout=0.0, peak_lr=0.0, precision="fp32", sparsity=0.0
    )
    training = Training(recipe, first(train, 37), run)
    losses = []
    for (part,) in training.loader.batches(training._orders(0)):
        x, goal = part.views(part.cut, recipe), training.loss.goal([part]).hard
        with torch.no_grad():
            losses += F.cross_entropy(training.network(x), goal, reduction="none").tolist()
    assert len(losses) == 37
    training.fit([photos / "val"])
    row = json.loads((run / "log.jsonl").read_text())
    assert row["loss"] == pytest.approx(sum(losses) / 37, rel=1e-4)


@pytest.mark.usefixtures("narrow")
def test_a_finished_model_has_the_mean_image_that_it_was_trained_with(
    photos: Path, run: Path
) -> None:
    """Scored from its file it gives what the run gave: photos of 224 px, no rounding of bf16."""
    recipe = replace(
        SMOKE, arch="alexnet", epochs=1, sizes=((0, 224),), store=256, mean_image=True,
        precision="fp32", sparsity=0.0, std=(64.0,) * 3,
    )  # fmt: skip
    data = load([photos / "train"], Preprocess(256, 256))
    training = Training(recipe, data, run)
    training.fit([photos / "val"])
    model = load_model(run / "model.safetensors")
    image = training.pixels.image
    assert model.image is not None
    assert image is not None
    assert torch.equal(model.image, image[16:240, 16:240])
    assert model.mean == pytest.approx(model.image.mean((0, 1)).tolist(), rel=1e-5)
    crops = load([photos / "val"], Preprocess(), data.labels).images
    with torch.inference_mode():
        logits = model.deployable(torch.from_numpy(crops)).numpy()
    np.testing.assert_allclose(training.predictor(224)(crops), logits, rtol=1e-4, atol=1e-5)


BACKENDS: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)


@pytest.fixture
def tf32() -> Iterator[None]:
    """Allowed, which for convolutions it is by default."""
    before = [backend.allow_tf32 for backend in BACKENDS]
    for backend in BACKENDS:
        backend.allow_tf32 = True
    yield
    for backend, allowed in zip(BACKENDS, before, strict=True):
        backend.allow_tf32 = allowed


@pytest.mark.usefixtures("narrow", "tf32")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_fp32_means_fp32_on_a_gpu_too(train: Dataset, run: Path, precision: Any) -> None:
    """TF32 rounds the factors of every product to 10 bits."""
    Training(replace(SMOKE, precision=precision), train, run)
    assert [backend.allow_tf32 for backend in BACKENDS] == [precision == "bf16"] * 2


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


@pytest.mark.usefixtures("narrow")
def test_a_loss_that_is_not_finite_stops_the_run_and_saves_nothing(
    photos: Path, train: Dataset, run: Path
) -> None:
    training = Training(SMOKE, train, run)
    with torch.no_grad():
        training.network.layers[-1].weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="loss is nan in epoch 1: pass a lower --lr"):
        training.fit([photos / "val"])
    assert not run.exists()


@pytest.mark.usefixtures("narrow")
def test_a_loss_that_has_left_all_bounds_stops_the_run(
    photos: Path, train: Dataset, run: Path
) -> None:
    training = Training(replace(SMOKE, peak_lr=32.0), train, run)
    with torch.no_grad():
        training.network.layers[-1].weight.mul_(1e6)
    with pytest.raises(FloatingPointError, match=r"--lr \(the highest rate is 2\)"):
        training.fit([photos / "val"])


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
    train: Dataset, run: Path, settings: dict[str, Any], ranks: int, message: str
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
