"""The mean of two runs: of their weights, with statistics of its own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from alexnet.labels import Label, Labels
from tests.photos import draw, encode
from training import merge
from training.checkpoint import Checkpoint, CheckpointError
from training.importers import load_model
from training.network import AlexNet
from training.plain import to_plain
from training.recipe import RECIPES

pytestmark = pytest.mark.usefixtures("narrow")
LABELS = Labels((Label("n1", "one"), Label("n2", "two"), Label("n3", "three")))
RECIPE = RECIPES["smoke"]


def run(folder: Path, seed: int, classes: int = 3) -> AlexNet:
    """A folder as training leaves it."""
    torch.manual_seed(seed)
    network = AlexNet(classes, RECIPE.arch, dropout=0.0).train()
    network(torch.randn(8, 3, 64, 64))
    with torch.no_grad():  # what pruning leaves: the same zeros in both, and some of its own
        network.fully_connected[-1].weight[:, :20] = 0
        network.fully_connected[-1].weight[:, 20 + seed] = 0
    plain = to_plain(network.eval())
    facts = {
        "arch": plain.arch, "labels": LABELS.to_tsv(), "mean": [128, 128, 128], "std": [64, 64, 64],
        "known": ["n1", "n2", "n3"], "lineage": ["smoke"], "commit": "ab12cd3", "photos": 20,
        "crop": 64,
    }  # fmt: skip
    folder.mkdir()
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    Checkpoint(state, {"recipe": RECIPE.to_json()}).save(folder / "last.safetensors")
    state = {f"network.{name}": tensor for name, tensor in plain.state_dict().items()}
    Checkpoint(state, facts).save(folder / "model.safetensors")
    return network


def photos(folder: Path) -> Path:
    for number, label in enumerate(LABELS.rows * 4):
        (folder / label.synset).mkdir(parents=True, exist_ok=True)
        (folder / label.synset / f"{number}.png").write_bytes(
            encode(draw(80, 64, seed=number), "PNG")
        )
    return folder


def test_it_has_the_mean_of_the_weights_and_its_zeros(tmp_path: Path) -> None:
    networks = [run(tmp_path / name, seed) for seed, name in enumerate("ab")]
    folder = photos(tmp_path / "photos")
    merge.merge([tmp_path / "a", tmp_path / "b"], [folder], [folder], tmp_path / "c")
    model = load_model(tmp_path / "c" / "model.safetensors")
    assert model.facts["lineage"] == ["smoke", "mean of the last 2 runs"]
    assert model.facts["accuracy"]["photos"] == 12
    last = model.network.fully_connected[-1].weight
    mean = torch.stack([network.fully_connected[-1].weight for network in networks]).mean(0)
    torch.testing.assert_close(last, mean)
    assert (last == 0).sum() == 3 * 20


@torch.no_grad()
def test_a_class_that_is_said_too_often_is_said_as_often_as_the_others(tmp_path: Path) -> None:
    run(tmp_path / "a", 0)
    model = load_model(tmp_path / "a" / "model.safetensors")
    bias = model.network.layers[-1].bias
    assert bias is not None
    bias.copy_(torch.tensor([2.0, 0.0, 0.0]))
    crops = np.random.default_rng(0).integers(0, 256, (300, 64, 64, 3), np.uint8)

    def said() -> torch.Tensor:
        return torch.from_numpy(model.predict(crops)).softmax(1).mean(0)

    assert said()[0] > 0.5
    merge.even_out(model, crops)
    torch.testing.assert_close(said(), torch.ones(3) / 3, atol=0.03, rtol=0)


def test_norms_have_the_mean_and_variance_of_what_goes_through() -> None:
    network = AlexNet(3, "alexnet-bn", dropout=0.0)
    x = 3 + 2 * torch.randn(300, 3, 64, 64)
    merge.measure(network, x)
    first, norm = network.features[0], network.features[1]
    assert isinstance(norm, nn.BatchNorm2d)
    through = first(x)
    torch.testing.assert_close(norm.running_mean, through.mean((0, 2, 3)), rtol=0.1, atol=0.1)
    torch.testing.assert_close(norm.running_var, through.var((0, 2, 3)), rtol=0.1, atol=0.1)
    assert not network.training


def test_runs_of_other_networks_are_refused(tmp_path: Path) -> None:
    run(tmp_path / "a", 0, classes=4)
    run(tmp_path / "b", 1)
    with pytest.raises(ValueError, match="not of the same network"):
        merge.merge([tmp_path / "a", tmp_path / "b"], [tmp_path], [tmp_path], tmp_path / "c")
    with pytest.raises(CheckpointError):
        merge.merge([tmp_path / "a", tmp_path / "none"], [tmp_path], [tmp_path], tmp_path / "c")
