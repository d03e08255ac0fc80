"""The recipe follows from what was asked for and from the number of photos."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from training.checkpoint import CheckpointError
from training.choice import choose, follow, resumed
from training.network import AlexNet
from training.recipe import FINETUNE, MODERN, ORIGINAL, PLAIN, RECIPES
from training.start import Start


def asked(**options: Any) -> Namespace:
    names = ("recipe", "init", "epochs", "batch", "lr", "precision", "prune", "patience")
    return Namespace(**{**dict.fromkeys(names), **options})


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What was read to start from: a network of 227 px with ImageNet's pixels."""
    paths: list[Path] = []

    def read(path: Path) -> Start:
        paths.append(path)
        state = AlexNet(3, "alexnet").state_dict()
        pixels = (124.0, 117.0, 104.0), (58.0, 57.0, 57.0)
        return Start(str(path), "alexnet", state, None, *pixels, 227, ["it"], 60.0)

    monkeypatch.setattr("training.network.HIDDEN", 16)
    monkeypatch.setattr("training.choice.read", read)
    return paths


def test_few_photos_start_from_the_starter(weights: list[Path]) -> None:
    recipe, start = choose(asked(), 500)
    assert [path.name for path in weights] == ["starter.tar.xz"]
    assert start is not None
    assert (recipe.name, recipe.arch, recipe.body) == ("finetune", "alexnet", FINETUNE.body)


def test_weights_bring_their_pixels_and_their_size(weights: list[Path]) -> None:
    recipe, _ = choose(asked(init="mine.pth"), 200_000)
    assert weights == [Path("mine.pth")]
    assert (recipe.name, recipe.sizes) == ("finetune", ((0, 144), (6, 227)))
    assert choose(asked(init="mine.pth", epochs=1), 500)[0].sizes == ((0, 227),)
    assert choose(asked(init="mine.pth", epochs=3), 500)[0].sizes == ((0, 144), (1, 227))
    assert (recipe.mean, recipe.std) == ((124.0, 117.0, 104.0), (58.0, 57.0, 57.0))


@pytest.mark.parametrize(
    ("options", "photos"),
    [({}, 50_000), ({}, None), ({"init": "none"}, 500), ({"recipe": "plain"}, 500)],
)
def test_from_scratch_it_is_plain(
    weights: list[Path], options: dict[str, Any], photos: int | None
) -> None:
    recipe, start = choose(asked(**options), photos)
    assert (recipe.name, start, weights) == ("plain", None, [])


@pytest.mark.parametrize("name", sorted(RECIPES.keys() - {"plain", "finetune"}))
def test_every_other_recipe_is_taken_to_the_letter(weights: list[Path], name: str) -> None:
    assert choose(asked(recipe=name), 500) == (RECIPES[name], None)
    recipe, start = choose(asked(recipe=name, init="a"), 500)
    assert recipe == RECIPES[name]
    assert start is not None


def test_plain_keeps_its_rate_where_it_was_found_and_lowers_it_below() -> None:
    assert follow(PLAIN, 100_000) == follow(PLAIN, 1_000_000) == PLAIN
    few = follow(PLAIN, 2_500)
    assert few.peak_lr == pytest.approx(0.024, abs=0.001)
    assert 16 <= few.batch <= 2_500 // 8
    batches = [follow(PLAIN, photos).batch for photos in (1, 100, 1000, 10_000)]
    assert batches == sorted(batches)
    assert batches[0] == 16


def test_finetuning_few_photos_takes_more_epochs_and_smaller_batches() -> None:
    few, many = follow(FINETUNE, 40), follow(FINETUNE, 50_000)
    assert few.epochs > many.epochs == FINETUNE.epochs
    assert few.batch < many.batch == FINETUNE.batch
    assert few.frozen == follow(FINETUNE, 999).frozen == 1.0, "the last layer learns alone"
    assert follow(FINETUNE, 1_000).frozen == many.frozen == 0.0


@pytest.mark.parametrize(("prune", "frozen"), [(None, 1.0), (0.0, 1.0), (0.5, 0.0)])
def test_layers_that_are_pruned_learn_even_from_few_photos(
    weights: list[Path], prune: float | None, frozen: float
) -> None:
    recipe, _ = choose(asked(prune=prune, init="a"), 500)
    assert (recipe.name, recipe.frozen) == ("finetune", frozen)


def test_the_command_line_wins(weights: list[Path]) -> None:
    recipe, _ = choose(
        asked(epochs=3, batch=32, lr=0.02, precision="fp32", prune=0.5, init="none"), 500
    )
    assert (recipe.epochs, recipe.batch, recipe.precision, recipe.sparsity) == (3, 32, "fp32", 0.5)
    assert recipe.highest_rate == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "--lr 0.0 is no learning rate"),
        ({"lr": 100.0}, "--lr 100.0 is no learning rate"),
        ({"epochs": 0}, "--epochs 0: at least 1"),
        ({"batch": 0}, "--batch 0: at least 1"),
        ({"patience": 0}, "--patience 0: at least 1"),
        ({"prune": 1.0}, "--prune 1.0 is no fraction"),
        ({"recipe": "2012", "lr": 0.1}, "rates of recipe 2012 are those of 2012: leave out --lr"),
        ({"recipe": "finetune", "init": "none"}, "needs weights to start from: pass --init"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose(asked(**options), 500)


def test_a_missing_starter_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("alexnet.starter.STARTER", tmp_path / "absent.tar.xz")
    with pytest.raises(CheckpointError, match="--init none to train from scratch"):
        choose(asked(), 500)


def test_a_resumed_run_has_the_recipe_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = follow(PLAIN, 300)
    facts = {"recipe": stored.to_json()}
    monkeypatch.setattr("training.choice.Checkpoint.load", lambda _: Namespace(facts=facts))
    assert resumed(asked(), tmp_path) == stored
    assert resumed(asked(recipe="plain"), tmp_path) == stored
    assert resumed(asked(epochs=5), tmp_path).differences(stored) == ["epochs 5 and 30"]
    assert resumed(asked(recipe="modern"), tmp_path) == MODERN
    assert resumed(asked(recipe="2012"), tmp_path) == ORIGINAL
