import json
from dataclasses import FrozenInstanceError, replace

import pytest

from tests.paths import ROOT
from training.network import ARCHITECTURES
from training.recipe import DEXP, ORIGINAL, PAPER, RECIPES, SMOKE, Recipe, get_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_json(name: str) -> None:
    recipe = get_recipe(name)
    assert recipe.name == name
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_trained(name: str) -> None:
    recipe = get_recipe(name)
    first, last = (recipe.size_at(epoch) for epoch in (0, recipe.epochs - 1))
    assert recipe.arch in ARCHITECTURES
    assert 64 <= first <= last <= ARCHITECTURES[recipe.arch].crop
    assert list(recipe.sizes) == sorted(recipe.sizes)
    assert recipe.sizes[0][0] == 0
    assert recipe.sizes[-1][0] < recipe.epochs
    assert 0 < recipe.view[0] <= recipe.view[1] <= 1
    assert set(recipe.filters) <= {"nearest", "bilinear", "bicubic"}


def test_recipe_2012_is_net_145() -> None:
    assert (ORIGINAL.arch, ORIGINAL.epochs, ORIGINAL.batch) == ("alexnet2012", 90, 128)
    assert (ORIGINAL.momentum, ORIGINAL.nesterov) == (0.9, False)
    assert (ORIGINAL.weight_decay, ORIGINAL.dropout, ORIGINAL.label_smoothing) == (5e-4, 0.5, 0.0)
    assert (ORIGINAL.mean, ORIGINAL.std) == ((127.226, 118.587, 103.448), (1.0, 1.0, 1.0))
    assert {round(ORIGINAL.store * fraction) for fraction in ORIGINAL.view} == {224}
    assert {ORIGINAL.size_at(epoch) for epoch in range(90)} == {224}
    assert (ORIGINAL.colour_noise, ORIGINAL.jitter, ORIGINAL.sparsity) == (0.1, 0.0, 0.0)
    assert (ORIGINAL.chunk, ORIGINAL.reshuffle, ORIGINAL.far_edge) == (32, False, True)
    assert ORIGINAL.mean_image
    assert ORIGINAL.precision == "fp32"


@pytest.mark.parametrize("per_epoch", [1, 12, 10_009])
def test_colour_noise_ends_with_epoch_66_of_net_145_and_67_of_net_170(per_epoch: int) -> None:
    """With the comparison of the training loop."""
    until = ORIGINAL.noise_until * 90 * per_epoch
    assert 66 * per_epoch - 1 < until <= 66 * per_epoch
    until = DEXP.noise_until * 95 * per_epoch
    assert 67 * per_epoch - 1 < until <= 67 * per_epoch
    assert PAPER.noise_until == 1.0


def test_the_differences_between_paper_and_code() -> None:
    code, paper = ORIGINAL.to_json(), PAPER.to_json()
    assert {key: paper[key] for key in paper if paper[key] != code[key]} == {
        "name": "2012-paper", "arch": "alexnet2012-paper", "schedule": "2012-paper",
        "chunk": 1, "reshuffle": True, "noise": "paper", "noise_until": 1.0, "far_edge": False,
    }  # fmt: skip


def expected(recipe: str) -> str:
    """The last column of its row in docs/training.md."""
    page = (ROOT / "docs" / "training.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{recipe}` |")]
    return row.split(" | ")[-1]


def test_the_page_has_the_figures_of_2012_with_the_nets_that_they_are_of() -> None:
    """The errors of net 145's log, by ten views, are what the paper prints as accuracies."""
    errors = (0.4066, 0.1821)
    paper = " / ".join(f"{100 * (1 - error):.1f}" for error in errors)
    assert "its own log: errors of 0.4066 / 0.1821 with ten views" in expected("2012")
    assert f"the paper's {paper} %" in expected("2012")
    assert f"the paper's {paper} with ten views are net 145's" in expected("2012-paper")
    single = "the single crop of its successors, nets 165, 169 and 170: 57.2–57.7 / 80.1–80.6"
    assert single in expected("2012")
    assert expected("2012-dexp").startswith("net 170 of the original's logs: 57.7 / 80.4,")


def test_a_recipe_cannot_be_changed_but_copied() -> None:
    with pytest.raises(FrozenInstanceError):
        ORIGINAL.batch = 256  # type: ignore[misc]
    assert replace(ORIGINAL, batch=256) != ORIGINAL


def test_a_recipe_with_unknown_fields_is_refused() -> None:
    with pytest.raises(TypeError, match="flux"):
        Recipe.from_json({**ORIGINAL.to_json(), "flux": 1})


def test_a_recipe_written_before_there_were_mean_images_is_read() -> None:
    old = SMOKE.to_json()
    del old["mean_image"], old["far_edge"]
    assert Recipe.from_json(old) == SMOKE


def test_a_recipe_gives_each_epoch_its_size() -> None:
    recipe = replace(SMOKE, sizes=((0, 64), (2, 96), (5, 224)))
    assert [recipe.size_at(e) for e in range(7)] == [64, 64, 96, 96, 96, 224, 224]


def test_a_named_recipe_takes_the_overrides_that_are_given() -> None:
    assert get_recipe("smoke", epochs=None, batch=None) == SMOKE
    assert get_recipe("smoke", epochs=7, batch=None) == replace(SMOKE, epochs=7)
