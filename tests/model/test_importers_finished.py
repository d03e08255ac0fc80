from pathlib import Path
from typing import Any

import pytest
import torch

from alexnet.labels import Labels
from training.checkpoint import Checkpoint, CheckpointError
from training.importers import load_model
from training.network import AlexNet

LABELS = "index\tsynset\tnames\n0\tn1\tone\n1\tn2\ttwo\n2\tn3\tthree\n"
FACTS = {
    "arch": "alexnet",
    "labels": LABELS,
    "mean": [128, 128, 128],
    "std": [64, 64, 64],
    "known": ["n1", "n3"],
    "lineage": ["plain"],
    "commit": "ab12cd3",
    "photos": 20,
}

pytestmark = pytest.mark.usefixtures("narrow")


def finished(folder: Path, arch: str = "alexnet", **facts: Any) -> tuple[Path, AlexNet]:
    """A finished model of three classes; facts that are None are left out."""
    torch.manual_seed(0)
    network = AlexNet(3, arch, dropout=0.0).eval()
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    known = {k: v for k, v in {**FACTS, "arch": arch, **facts}.items() if v is not None}
    path = folder / "model.safetensors"
    Checkpoint(state, known).save(path)
    return path, network


def refusal(path: Path, classes: Path | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_model(path, classes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("arch", ["alexnet", "alexnet2012", "alexnet2012-paper", "alexnet-caffe"])
def test_a_finished_model_comes_back_with_its_facts(tmp_path: Path, arch: str) -> None:
    path, network = finished(tmp_path, arch)
    model = load_model(path)
    assert model.network.arch == arch
    assert not model.network.training
    assert (model.mean, model.std) == ((128, 128, 128), (64, 64, 64))
    assert (model.labels, model.known) == (Labels.from_tsv(LABELS), 2)
    assert (model.facts["lineage"], model.facts["commit"]) == (["plain"], "ab12cd3")
    assert (model.crop, len(model.sha256)) == (224, 64)
    x = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        assert torch.equal(model.network(x), network(x))


def with_mean(path: Path, mean: torch.Tensor) -> Path:
    checkpoint = Checkpoint.load(path)
    Checkpoint({**checkpoint.tensors, "mean": mean}, checkpoint.facts).save(path)
    return path


def test_a_mean_image_comes_back_and_a_model_from_before_has_none(tmp_path: Path) -> None:
    path, network = finished(tmp_path, "alexnet2012")
    assert load_model(path).image is None
    image = 255 * torch.rand(224, 224, 3)
    model = load_model(with_mean(path, image))
    assert model.image is not None
    assert torch.equal(model.image, image)
    pixels = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = network(((pixels - image) / 64).permute(0, 3, 1, 2))
        torch.testing.assert_close(model.deployable(pixels), expected)


@pytest.mark.parametrize(
    ("mean", "complaint"),
    [
        (torch.zeros(224, 224), "its mean image has the shape (224, 224), expected (224, 224, 3)"),
        (torch.full((224, 224, 3), torch.nan), "its mean image has values that are not finite"),
    ],
)
def test_a_damaged_mean_image_is_refused(
    tmp_path: Path, mean: torch.Tensor, complaint: str
) -> None:
    path, _ = finished(tmp_path, "alexnet2012")
    assert refusal(with_mean(path, mean)) == f"{path}: {complaint}"


def test_the_crop_is_the_one_it_was_trained_at(tmp_path: Path) -> None:
    path, _ = finished(tmp_path, crop=227)
    assert load_model(path).crop == 227


@pytest.mark.parametrize("arch", ["alexnet-bn", "vgg", None, ["alexnet"]])
def test_a_checkpoint_to_resume_from_is_no_model(tmp_path: Path, arch: Any) -> None:
    path, _ = finished(tmp_path)
    checkpoint = Checkpoint.load(path)
    Checkpoint(checkpoint.tensors, {**checkpoint.facts, "arch": arch}).save(path)
    assert refusal(path) == f"{path} is not a finished model: export takes model.safetensors"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("labels", None), ("labels", 3), ("labels", "n1\nn2"), ("mean", None), ("mean", [1, 2]),
        ("mean", ["a", "b", "c"]), ("mean", 128), ("std", [64, 64, 0]), ("std", [64, 64, -1]),
        ("mean", [float("nan")] * 3), ("known", None), ("known", 3), ("known", list("abcd")),
        ("lineage", None), ("lineage", 3), ("lineage", [3]), ("commit", None), ("commit", 5),
        ("taught", 3), ("taught", {}), ("taught", {"teacher": "t", "photos": "9", "classes": []}),
        ("taught", {"teacher": "t", "photos": 9, "classes": [0, 1, 2, 3]}),
        ("crop", 0), ("crop", [224]), ("crop", 1e300), ("crop", float("inf")),
    ],
)  # fmt: skip
def test_damaged_facts_are_refused(tmp_path: Path, name: str, value: Any) -> None:
    path, _ = finished(tmp_path, **{name: value})
    assert refusal(path).startswith(f"{path} is damaged: ")


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path, _ = finished(tmp_path)
    checkpoint = Checkpoint.load(path)
    facts = checkpoint.facts
    Checkpoint(checkpoint.tensors, {**facts, "arch": "alexnet2012"}).save(path)
    assert refusal(path).startswith(f"{path} is no alexnet2012: it has no ")
    Checkpoint(checkpoint.tensors, {**facts, "labels": LABELS + "3\tn4\tfour\n"}).save(path)
    assert refusal(path) == f"{path}: classifier.6.weight has the shape (3, 64), expected (4, 64)"


def test_a_missing_file_is_reported_as_missing(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    assert refusal(path) == f"there are no weights at {path}"


def test_a_class_order_is_refused_since_it_is_known(tmp_path: Path) -> None:
    path, _ = finished(tmp_path)
    assert "leave out --class-order" in refusal(path, tmp_path / "classes.txt")


@pytest.mark.parametrize("data", [b"", b"text", b"\xff" * 1000, b"[" * 9])
@pytest.mark.parametrize("name", ["model.safetensors", "weights", "weights.h5"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert refusal(path).startswith(f"{path} is no AlexNet checkpoint: ")


def test_deeply_nested_facts_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"alexnet": "[" * 100_000})
    assert refusal(path) == f"{path} is damaged: too large or too deeply nested"


def test_any_damage_to_the_file_is_reported_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, network = finished(tmp_path)
    monkeypatch.setattr("training.importers.base.AlexNet", lambda *_, **__: network)
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    small = path.with_name("small.safetensors")
    for end in range(0, header + 100, 151):
        small.write_bytes(whole[:end])
        refusal(small)
    tensors = {"network.a": torch.arange(8.0)}
    Checkpoint(tensors, FACTS).save(small)
    whole = small.read_bytes()
    for position in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        small.write_bytes(damaged)
        refusal(small)
