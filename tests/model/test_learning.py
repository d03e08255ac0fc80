"""Learning from a teacher, end to end: labelled, trained, resumed, exported, on drawn photos."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet.bundle import Bundle
from alexnet.spec import Preprocess
from export.__main__ import main as export
from tests.photos import class_folders
from tests.teachers import SIDE, hue_teacher
from tests.training import Interrupted
from training.checkpoint import Checkpoint
from training.data import Dataset
from training.importers import load_model
from training.label import main as label
from training.loader import PoolLoader
from training.loop import Training
from training.plan import Plan
from training.pools import Pool, describe, open_pools
from training.recipe import SMOKE
from training.softlabels import SoftLabels

HUES = ("cherry", "leaf", "sky", "violet")
ORDER = ("violet", "sky", "leaf", "cherry")
STORE = Preprocess(SMOKE.store, SMOKE.store)
EVERYTHING = replace(
    SMOKE, mixup=0.2, cutmix=1.0, temperature=2.0, balance=0.5, average=0.9, grain=10.0
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled photos of two hues, photos of four hues in a folder without classes, and the answers
    of a teacher to both."""
    folder = tmp_path_factory.mktemp("learning")
    class_folders(folder / "all", HUES, each=12)
    class_folders(folder / "val", HUES, each=5, seed=1)
    class_folders(folder / "hidden", HUES, each=12, seed=2)
    for name in HUES[:2]:
        shutil.copytree(folder / "all" / name, folder / "train" / name)
    (folder / "more").mkdir()
    for i, photo in enumerate(sorted((folder / "hidden").rglob("*.png"))):
        shutil.copy(photo, folder / "more" / f"{i:03d}.png")
    hue_teacher(folder / "hues.onnx", HUES, ORDER)
    for name in ("train", "more"):
        arguments = ["--photos", folder / name, "--output", folder / f"{name}.labels"]
        with pytest.MonkeyPatch.context() as patch:
            command = ["alexnet-label", folder / "hues.onnx", "--recipe", "smoke", *arguments]
            patch.setattr("sys.argv", [*map(str, command), "--cache", str(folder / "cache")])
            label()
    return folder


def pools_of(
    folder: Path, *, train: bool = True, both: bool = False, share: float | None = 0.75
) -> tuple[Dataset, list[Pool]]:
    labels = [folder / "more.labels"] + ([folder / "train.labels"] if both else [])
    sources = [folder / "train"] if train else []
    shares = [share] if share else []
    return open_pools(sources, [[folder / "more"]], labels, shares, STORE, folder / "cache")


def test_pools_have_the_classes_of_folders_and_teacher(folder: Path) -> None:
    data, pools = pools_of(folder, both=True)
    assert [row.synset for row in data.labels.rows] == sorted(HUES)
    assert data.known == [0, 1]
    assert [len(pool.data) for pool in pools] == [24, 48]
    assert [pool.share for pool in pools] == pytest.approx([0.25, 0.75])
    first = [soft.first().tolist() for pool in pools for soft in pool.soft]
    assert first == [[0] * 12 + [1] * 12, [0] * 12 + [1] * 12 + [2] * 12 + [3] * 12]
    assert describe(pools) == ", and 48 without a class; taught by hues, 2 more classes"
    assert pools_of(folder, share=None)[1][0].share == pytest.approx(1 / 3)


def test_labels_of_other_photos_are_refused(folder: Path, tmp_path: Path) -> None:
    train, more = [folder / "train"], [[folder / "more"]]
    with pytest.raises(ValueError, match=r"train\.labels has labels of 24 other photos"):
        open_pools([], more, [folder / "train.labels"], [], STORE, None)
    with pytest.raises(ValueError, match=r"no labels are of the photos in .*more"):
        open_pools(train, more, [folder / "train.labels"], [], STORE, None)
    with pytest.raises(ValueError, match="pass --labels"):
        open_pools(train, more, [], [], STORE, None)
    with pytest.raises(ValueError, match=r"more\.labels has labels of 48 other photos"):
        open_pools([], more, [folder / "more.labels"], [], Preprocess(48, 48), None)
    moved = tmp_path / "moved"
    shutil.copytree(folder / "more", moved)
    assert len(open_pools([], [[moved]], [folder / "more.labels"], [], STORE, None)[1]) == 1


@pytest.mark.parametrize(
    ("shares", "message"),
    [([1.0], "leaves no photos with classes"), ([0.2, 0.3], "a number above 0 for each"),
     ([-0.5], "a number above 0 for each")],
)  # fmt: skip
def test_shares_that_do_not_fit_are_refused(
    folder: Path, shares: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        open_pools(
            [folder / "train"], [[folder / "more"]], [folder / "more.labels"], shares, STORE, None
        )


def test_several_teachers_of_the_same_photos_need_the_same_views(folder: Path) -> None:
    more, own = [[folder / "more"]], folder / "more.labels"
    soft = SoftLabels.load(own)
    second = replace(soft, origin=replace(soft.origin, teacher="second"))
    second.save(folder / "second.labels")
    _, (pool,) = open_pools([], more, [own, folder / "second.labels"], [], STORE, None)
    assert [s.origin.teacher for s in pool.soft] == ["hues", "second"]
    assert describe([pool]).endswith("taught by hues, second, 4 more classes")
    replace(second, origin=replace(second.origin, seed=1)).save(folder / "third.labels")
    with pytest.raises(ValueError, match="has other views of its photos"):
        open_pools([], more, [own, folder / "third.labels"], [], STORE, None)


def test_training_shows_the_very_crops_that_the_teacher_answered(folder: Path) -> None:
    """The teacher, asked again about the pixels of a batch, gives the answers that were stored."""
    from training.teacher import Teacher

    recipe = replace(SMOKE, sizes=((0, SIDE),), jitter=0.0)
    _, pools = pools_of(folder)
    teacher = Teacher(folder / "hues.onnx")
    taken = 0
    for _, part in PoolLoader(pools, torch.device("cpu")).batches(
        Plan(recipe, pools, (0, 1)).orders(0, 0)
    ):
        (answers,) = part.answers
        again = teacher(part.cut.numpy())
        places = [sorted(HUES).index(name) for name in ORDER]
        shares = torch.zeros(len(again), 4).scatter_(1, answers.classes, answers.shares)
        ours = shares.numpy()[:, places]
        np.testing.assert_allclose(ours, again, atol=1e-3)
        seen = part.views(part.cut, recipe)
        restored = seen.permute(0, 2, 3, 1) * 64 + 128
        np.testing.assert_allclose(restored.numpy(), part.cut.numpy(), atol=1e-3)
        taken += len(again)
    assert taken == 4 * 12


@pytest.mark.usefixtures("narrow")
def test_a_network_learns_classes_that_only_the_teacher_knows(
    folder: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, pools = pools_of(folder)
    recipe = replace(EVERYTHING, epochs=10, mixup=0.1, cutmix=0.0, average=0.8)
    training = Training(recipe, data, run, pools=pools)
    result = training.fit([folder / "val"])
    assert result.top1 >= 0.75, "two of the four hues have no labelled photo"

    facts = Checkpoint.load(run / "model.safetensors").facts
    assert (facts["known"], facts["photos"]) == ([0, 1], 24)
    assert facts["taught"] == {"teacher": "hues", "photos": 48, "classes": [2, 3]}
    card = (run / "card.md").read_text()
    assert "2 classes and 2 more from a teacher" in card
    assert "Taught by hues: its answers to 48 photos" in card
    network = load_model(run / "model.safetensors").network
    sparsity = [(layer.weight == 0).float().mean().item() for layer in network.fully_connected]
    assert sparsity == pytest.approx([0.5] * 3, abs=0.01), "the average is pruned, too"

    arguments = ["--photos", folder / "val", "--val", folder / "val", "--output", run / "bundle"]
    arguments += ["--precision", "fp32", "--crop", "64"]
    command = ["alexnet-export", run / "model.safetensors", *arguments]
    monkeypatch.setattr("sys.argv", list(map(str, command)))
    export()
    bundle = Bundle.open(run / "bundle")
    manifest = bundle.manifest
    assert manifest.model.known_classes == 2
    assert manifest.taught is not None
    assert (manifest.taught.teacher, manifest.taught.photos) == ("hues", 48)
    assert manifest.taught.classes == 2
    assert "labelled photos of 2 of its 4 classes and learned 2 more" in manifest.model.description
    accuracy = manifest.artifacts[0].accuracy
    assert accuracy is not None
    assert accuracy.top1 == pytest.approx(result.top1, abs=0.1)
    text = bundle.files["card.md"].decode()
    assert "Taught by hues: its answers to 48 photos; 2 more classes" in text


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("at", [2, 3, 4])
def test_a_resumed_run_with_a_teacher_gives_bitwise_the_same_weights(
    folder: Path, run: Path, at: int
) -> None:
    """With classes, answers, both, mixing, balance, an average and pruning: in the middle of an
    epoch, in its last step, in the first of the next."""
    data, pools = pools_of(folder, both=True)
    assert Training(EVERYTHING, data, run, pools=pools).plan.batches.counts == [16] * 4
    Training(EVERYTHING, data, run / "whole", pools=pools).fit([folder / "val"])
    stopped = Interrupted(EVERYTHING, data, run / "halves", pools=pools)
    stopped.at = at
    with pytest.raises(KeyboardInterrupt):
        stopped.fit([folder / "val"])
    data, pools = pools_of(folder, both=True)
    resumed = Training(EVERYTHING, data, run / "halves", pools=pools)
    resumed.state.resume(run / "halves")
    assert resumed.state.step == at + 1
    resumed.fit([folder / "val"])
    for name in ("last.safetensors", "model.safetensors"):
        whole, halves = (Checkpoint.load(run / part / name) for part in ("whole", "halves"))
        assert whole.tensors.keys() == halves.tensors.keys()
        assert [k for k, v in whole.tensors.items() if not torch.equal(v, halves.tensors[k])] == []
    averages = Checkpoint.load(run / "whole" / "last.safetensors").part("average")
    model = Checkpoint.load(run / "whole" / "last.safetensors").part("network")
    assert averages.keys() == model.keys()
    assert not torch.equal(averages["classifier.1.weight"], model["classifier.1.weight"])


@pytest.mark.usefixtures("narrow")
def test_a_run_is_not_resumed_with_other_shares_or_without_its_teacher(
    folder: Path, run: Path
) -> None:
    data, pools = pools_of(folder)
    recipe = replace(SMOKE, epochs=1)
    Training(recipe, data, run, pools=pools).fit([folder / "val"])
    for other in (pools_of(folder, share=0.5)[1], [Pool(data)]):
        with pytest.raises(ValueError, match="other soft labels or shares"):
            Training(recipe, data, run, pools=other).state.resume(run)
    again = Training(recipe, data, run, pools=pools)
    again.state.resume(run)
    assert again.state.step == 4


@pytest.mark.usefixtures("narrow")
def test_a_teacher_alone_is_enough(folder: Path, run: Path) -> None:
    data, pools = pools_of(folder, train=False, share=None)
    assert (len(data), data.known) == (0, [])
    training = Training(replace(SMOKE, epochs=8, temperature=2.0), data, run, pools=pools)
    assert training.fit([folder / "val"]).top1 >= 0.75
    model = load_model(run / "model.safetensors")
    assert model.known == 0
    assert model.facts["taught"]["classes"] == [0, 1, 2, 3]


@pytest.mark.usefixtures("narrow")
def test_the_norms_of_plain_weights_see_the_teachers_photos_where_there_are_no_others(
    folder: Path, run: Path
) -> None:
    data, pools = pools_of(folder, train=False, share=None)
    recipe = replace(SMOKE, epochs=1)
    Training(recipe, data, run, pools=pools).fit([folder / "val"])
    second = Training(recipe, data, run / "second", pools=pools)
    second.state.init(run / "model.safetensors")
    assert all(torch.isfinite(t).all() for t in second.network.state_dict().values())


@pytest.mark.usefixtures("narrow")
def test_the_average_is_what_is_scored_saved_and_started_from(folder: Path, run: Path) -> None:
    data, pools = pools_of(folder)
    recipe = replace(SMOKE, average=0.9, arch="alexnet")
    training = Training(recipe, data, run, pools=pools)
    training.fit([folder / "val"])
    last = Checkpoint.load(run / "last.safetensors")
    model = Checkpoint.load(run / "model.safetensors")
    name = "classifier.1.weight"
    assert torch.equal(training.state.scored.state_dict()[name], last.part("average")[name])
    plain = load_model(run / "model.safetensors").network.state_dict()
    assert model.part("network").keys() == plain.keys()
    second = Training(replace(recipe, seed=1), data, run / "second", pools=pools)
    second.state.init(run / "last.safetensors")
    for network in second.state.networks:
        assert torch.equal(network.state_dict()[name], last.part("average")[name])
