"""A run starts from the weights of anything that the importers read."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from alexnet.labels import Label, Labels
from alexnet.spec import Preprocess
from tests.training import Interrupted
from training.checkpoint import Checkpoint, CheckpointError
from training.data import Dataset, load
from training.importers import load_model
from training.loop import Training
from training.network import AlexNet
from training.recipe import FINETUNE, SMOKE
from training.start import Start, read, suit

pytestmark = pytest.mark.usefixtures("narrow")
STORE = Preprocess(SMOKE.store, SMOKE.store)
TUNED = replace(FINETUNE, store=64, sizes=((0, 64),), batch=16, epochs=1)


@pytest.fixture
def train(photos: Path) -> Dataset:
    return load([photos / "train"], STORE)


def labels(*names: str) -> Labels:
    return Labels(tuple(Label(name, name) for name in names))


def renamed(data: Dataset, *names: str) -> Dataset:
    return Dataset(data.images, data.targets, labels(*names))


@pytest.fixture
def finished(photos: Path, train: Dataset, run: Path) -> Path:
    """The folder of a run of one epoch, on cherry, leaf, sky and violet."""
    Training(replace(SMOKE, epochs=1), train, run).fit([photos / "val"])
    return run


def test_a_finished_model_starts_with_its_own_head_for_the_same_classes(
    finished: Path, train: Dataset, tmp_path: Path
) -> None:
    start = read(finished / "model.safetensors")
    training = Training(suit(TUNED, start), train, tmp_path)
    training.state.init(start)
    plain = load_model(finished / "model.safetensors").network.state_dict()
    assert all(torch.equal(t, plain[name]) for name, t in training.network.state_dict().items())
    assert training.state.lineage == ["smoke", "finetune"]
    assert start.describe(train.labels).endswith("its last layer knows these classes")


def test_other_classes_get_a_new_head_and_keep_the_rest(
    finished: Path, train: Dataset, tmp_path: Path
) -> None:
    start = read(finished)
    assert start.name == str(finished)
    other = renamed(train, "cat", "dog", "bird", "fish")
    training = Training(suit(TUNED, start), other, tmp_path)
    fresh = {name: t.clone() for name, t in training.network.state_dict().items()}
    training.state.init(start)
    same = {
        name for name, t in training.network.state_dict().items() if torch.equal(t, fresh[name])
    }
    assert same == {"classifier.6.weight", "classifier.6.bias"}
    assert start.describe(other.labels).endswith("with a new last layer")


def test_a_network_with_the_same_convolutions_takes_only_these(
    finished: Path, train: Dataset, tmp_path: Path
) -> None:
    recipe = replace(SMOKE, arch="alexnet-small-bn", epochs=1)
    training = Training(recipe, train, tmp_path)
    start = read(finished / "model.safetensors").for_network(recipe.arch)
    training.state.init(start)
    plain = load_model(finished / "model.safetensors").network
    for ours, theirs in zip(training.network.layers[:5], plain.layers[:5], strict=True):
        assert torch.equal(ours.weight, theirs.weight)
    assert start.describe(train.labels).endswith("its convolutions alone")
    assert start.for_network(recipe.arch) is start


def test_the_minutes_of_this_run_are_told_from_those_of_the_weights(
    finished: Path, photos: Path, train: Dataset, tmp_path: Path
) -> None:
    start = replace(read(finished), seconds=6000.0)
    training = Training(suit(TUNED, start), train, tmp_path)
    training.state.init(start)
    training.state.seconds += 42.0
    training.fit([photos / "val"])
    facts = load_model(tmp_path / "model.safetensors").facts
    assert 0.7 <= facts["run_minutes"] < 5
    assert facts["train_minutes"] == pytest.approx(100 + facts["run_minutes"])
    again = Training(suit(TUNED, start), train, tmp_path)
    again.state.resume(tmp_path)
    assert again.state.before_s == 6000.0


def test_classes_that_the_head_has_in_another_order_are_found_in_it(
    finished: Path, train: Dataset, tmp_path: Path
) -> None:
    start = read(finished)
    training = Training(suit(TUNED, start), renamed(train, "violet", "sky", "leaf", "cherry"),
                        tmp_path)  # fmt: skip
    training.state.init(start)
    head = training.network.state_dict()["classifier.6.bias"]
    assert torch.equal(head, start.weights["classifier.6.bias"].flip(0))


def test_a_last_checkpoint_starts_with_batch_norm(
    finished: Path, train: Dataset, tmp_path: Path
) -> None:
    start = read(finished / "last.safetensors")
    assert start.arch == "alexnet-bn"
    assert start.head == ("classifier.8.weight", "classifier.8.bias")
    recipe = suit(TUNED, start)
    Training(recipe, train, tmp_path).state.init(start)
    other = Training(recipe, renamed(train, "a", "b", "c", "d"), tmp_path)
    other.state.init(start)
    assert not torch.equal(
        other.network.state_dict()["classifier.8.weight"], start.weights["classifier.8.weight"]
    )


def test_a_checkpoint_from_before_it_named_its_classes_keeps_a_head_of_their_number(
    finished: Path,
) -> None:
    path = finished / "last.safetensors"
    saved = Checkpoint.load(path)
    facts = {k: v for k, v in saved.facts.items() if k != "data"}
    Checkpoint(saved.tensors, facts).save(path)
    start = read(path)
    assert start.labels is None
    assert start.rows(labels("a", "b", "c", "d")) == [0, 1, 2, 3]
    assert start.rows(labels("a", "b")) is None


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("classes", [3, 1000])
def test_torchvisions_weights_bring_their_pixels(
    tmp_path: Path, train: Dataset, classes: int, suffix: str
) -> None:
    path, state = tmp_path / f"alexnet{suffix}", AlexNet(classes).state_dict()
    (torch.save if suffix == ".pth" else save_file)(state, path)
    start = read(path)
    recipe = suit(TUNED, start)
    assert recipe.mean == pytest.approx((123.675, 116.28, 103.53))
    training = Training(replace(recipe, sizes=((0, 64),)), train, tmp_path / "run")
    training.state.init(start)
    assert training.network.layers[0].weight.equal(start.weights["features.0.weight"])


def test_of_a_mean_image_each_channel_has_its_mean(photos: Path, train: Dataset, run: Path) -> None:
    recipe = replace(SMOKE, arch="alexnet", epochs=1, mean_image=True)
    training = Training(recipe, train, run)
    training.fit([photos / "val"])
    assert training.pixels.image is not None
    measured = training.pixels.image.mean((0, 1)).tolist()
    assert max(measured) < 125 < recipe.mean[0], "it is not the recipe's"
    for name in ("last.safetensors", "model.safetensors"):
        assert suit(TUNED, read(run / name)).mean == pytest.approx(measured, abs=1)


@pytest.mark.parametrize("arch", ["alexnet2012", "alexnet-caffe"])
def test_dropouts_factor_is_unfolded_for_the_networks_of_2012(arch: str) -> None:
    """In evaluation the network in training gives what the plain one gives."""
    torch.manual_seed(0)
    plain = AlexNet(4, arch, dropout=0.0).eval()
    four = labels("a", "b", "c", "d")
    start = Start(
        "x", arch, plain.state_dict(), four, (0.0,) * 3, (1.0,) * 3, 96, [], 0, plain=True
    )
    network = AlexNet(4, arch, dropout=0.5).eval()
    network.load_state_dict(start.weights_for(four, 0.5))
    x = 50 * torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        torch.testing.assert_close(network(x), plain(x))


def test_weights_of_another_network_are_refused(finished: Path, train: Dataset) -> None:
    start = read(finished / "last.safetensors")
    training = Training(replace(SMOKE, arch="alexnet"), train, finished)
    with pytest.raises(CheckpointError, match="does not fit this network: it is alexnet-bn, and"):
        training.state.init(start)
    del start.weights["features.0.weight"]
    training = Training(SMOKE, train, finished)
    with pytest.raises(CheckpointError, match=r"does not fit this network: no features\.0\.weight"):
        training.state.init(start)


def test_what_is_no_start_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    for name in ("absent", "absent.pth", "absent.tar.xz", "absent.safetensors"):
        with pytest.raises(CheckpointError, match=r"there (is|are) no .* at"):
            read(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError):
        read(tmp_path / "empty")


def test_finetuning_moves_the_head_at_the_full_rate_and_the_rest_at_a_tenth(
    finished: Path, train: Dataset, photos: Path, tmp_path: Path
) -> None:
    start = read(finished)
    recipe = suit(TUNED, start)
    training = Training(replace(recipe, sizes=((0, 64),), epochs=2), train, tmp_path)
    training.state.init(start)
    rates = {g["factor"] for g in training.state.optimizer.param_groups}
    assert rates == {1.0, 0.1}
    head = {id(p) for p in training.network.layers[-1].parameters()}
    for group in training.state.optimizer.param_groups:
        assert {id(p) in head for p in group["params"]} == {group["factor"] == 1.0}
    before = {name: t.clone() for name, t in training.network.state_dict().items()}
    assert training.fit([photos / "val"]).top1 >= 0.25
    after = training.network.state_dict()
    assert not any(torch.equal(before[name], after[name]) for name in before)
    tuned = load_model(tmp_path / "model.safetensors")
    assert tuned.facts["lineage"] == ["smoke", "finetune"]


@pytest.mark.parametrize(("at", "kept"), [(1, 7), (4, 7), (1, 5)])
def test_the_first_layers_stay_for_a_while_also_when_the_run_is_stopped(
    finished: Path, train: Dataset, photos: Path, tmp_path: Path, at: int, kept: int
) -> None:
    """Stopped while they are frozen, and afterwards: the weights are those of a whole run."""
    start = read(finished)
    recipe = replace(suit(TUNED, start), sizes=((0, 64),), epochs=2, frozen=0.5, kept=kept)
    runs = {}
    for name in ("whole", "halves"):
        runs[name] = Interrupted(recipe, train, tmp_path / name)
        runs[name].state.init(start)
    runs["whole"].at = -1
    runs["whole"].fit([photos / "val"])
    runs["halves"].at = at
    with pytest.raises(KeyboardInterrupt):
        runs["halves"].fit([photos / "val"])
    conv = start.weights["features.0.weight"]
    halves = runs["halves"].network.layers
    before = [t for name, t in start.weights.items() if name.endswith("weight") and t.ndim > 1]
    for i, (layer, weight) in enumerate(zip(halves, before, strict=True)):
        assert torch.equal(layer.weight, weight) == (at == 1 and i < kept)
    resumed = Training(recipe, train, tmp_path / "halves")
    resumed.state.resume(tmp_path / "halves")
    resumed.fit([photos / "val"])
    whole = runs["whole"].network.state_dict()
    assert not torch.equal(whole["features.0.weight"], conv)
    assert all(torch.equal(t, whole[k]) for k, t in resumed.network.state_dict().items())
