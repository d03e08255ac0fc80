"""Checkpoints of 2012, as Python 2 wrote them, against a reimplementation of the original."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alexnet.labels import Labels
from tests.model.convnet import as_list, checkpoint, compute_as_the_original, layers, put, to_pickle
from training.checkpoint import CheckpointError
from training.importers import load_model
from training.network import AlexNet

pytestmark = pytest.mark.usefixtures("narrow")


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """A file with another order than ours."""
    synsets = [label.synset for label in Labels.imagenet().rows]
    np.random.default_rng(3).shuffle(synsets)
    path = tmp_path / "classes.txt"
    path.write_text("\n\n".join(f"{synset} some name" for synset in synsets) + "\n")
    return path


@pytest.mark.parametrize(
    ("order", "swapped", "form"),
    [("C", (), dict), ("F", ("conv3b", "fc2048bb"), as_list), ("F", ("fc1000", "fc2048a"), dict)],
)
def test_it_computes_the_same_as_the_original(
    tmp_path: Path, classes: Path, order: str, swapped: tuple[str, ...], form: Callable[[Any], Any]
) -> None:
    original = layers(order, swapped)
    model = load_model(put(tmp_path / "90.1251", checkpoint(form(original))), classes)
    assert (model.network.arch, model.crop, model.std) == ("alexnet2012", 224, (1, 1, 1))
    assert model.geometry == "centre"
    assert (model.labels, model.known) == (Labels.imagenet(), 1000)
    assert model.facts == {"lineage": ["cuda-convnet"], "commit": "unknown"}
    assert not model.network.training
    pixels = np.random.default_rng(1).integers(0, 256, (224, 224, 3), np.uint8)
    with torch.inference_mode():
        logits = model.deployable(torch.from_numpy(pixels)[None])[0].numpy()
    synsets = [line.split()[0] for line in classes.read_text().splitlines() if line]
    by_synset = dict(zip(synsets, compute_as_the_original(original, pixels), strict=True))
    expected = np.array([by_synset[label.synset] for label in model.labels.rows])
    assert expected.std() > 0.3
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3 * expected.std())


def meta(mean: Any) -> dict[str, Any]:
    """What else a `batches.meta` holds is not needed, but must not be in the way."""
    return {
        "data_mean": mean,
        "color_pca": [np.ones(3), np.eye(3)],
        "label_names": ["n01440764", "n01443537"],
        "num_vis": 196608,
        "batch_size": 1024,
        "label_offset": np.int64(1),
    }


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("packed", [False, True])
def test_the_centre_of_the_mean_image_of_batches_meta_is_subtracted(
    tmp_path: Path, classes: Path, dtype: str, packed: bool
) -> None:
    coarse = np.random.default_rng(5).uniform(60, 180, (3, 8, 8))
    mean = coarse.repeat(32, 1).repeat(32, 2).astype(dtype)
    file, data = tmp_path / "batches.meta", to_pickle(meta(mean.reshape(-1, 1)))
    file.write_bytes(data)
    if packed:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("data", data)
    original = layers()
    model = load_model(put(tmp_path / "90.1251", checkpoint(original)), classes, mean=file)
    pixels = np.random.default_rng(1).integers(0, 256, (224, 224, 3), np.uint8)
    with torch.inference_mode():
        logits = model.deployable(torch.from_numpy(pixels)[None])[0].numpy()
    centre = mean[:, 16:240, 16:240].transpose(1, 2, 0)
    synsets = [line.split()[0] for line in classes.read_text().splitlines() if line]
    by_synset = dict(zip(synsets, compute_as_the_original(original, pixels, centre), strict=True))
    expected = np.array([by_synset[label.synset] for label in model.labels.rows])
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3 * expected.std())
    assert np.abs(compute_as_the_original(original, pixels) - expected).max() > 0.01


@pytest.mark.parametrize(
    ("contents", "complaint"),
    [
        ({}, " is no batches.meta of cuda-convnet: it has no data_mean"),
        ([1], " is no batches.meta of cuda-convnet: it has no data_mean"),
        (meta(3.0), ": data_mean is no array"),
        (meta(np.zeros((3072, 1), "f")), ": data_mean has the shape (3072,), expected (196608,)"),
        (meta(np.full((196608, 1), -1, "f")), " has values outside of 0 to 255"),
    ],
)
def test_a_file_without_a_mean_image_is_refused(
    tmp_path: Path, classes: Path, contents: Any, complaint: str, weights: Any
) -> None:
    file = put(tmp_path / "batches.meta", contents)
    path = put(tmp_path / "1.1", checkpoint(weights))
    with pytest.raises(CheckpointError) as caught:
        load_model(path, classes, mean=file)
    assert str(caught.value) == f"{file}{complaint}"
    file.write_bytes(b"no pickle")
    with pytest.raises(
        CheckpointError, match=r"batches\.meta is no batches\.meta of cuda-convnet: "
    ):
        load_model(path, classes, mean=file)


@pytest.fixture(scope="module")
def weights() -> Any:
    return layers()


def first_weight(path: Path, classes: Path) -> float:
    return float(load_model(path, classes).network.layers[0].weight[0, 0, 0, 0].detach())


@pytest.mark.parametrize("packed", [False, True])
def test_of_a_folder_the_newest_checkpoint_is_read(
    tmp_path: Path, classes: Path, weights: Any, packed: bool
) -> None:
    folder = tmp_path / "ConvNet__2012-09-13_03.43.56"
    folder.mkdir()
    (folder / "9.1251").write_text("older")
    path = put(folder / "90.1251", checkpoint(weights))
    if packed:
        data = path.read_bytes()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data", data)
    assert first_weight(folder, classes) == weights["conv1a"]["weights"][0][0, 0]
    assert first_weight(path, classes) == weights["conv1a"]["weights"][0][0, 0]


def refusal(path: Path, classes: Path | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_model(path, classes)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def test_without_the_order_of_the_classes_it_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "1.1", checkpoint({}))
    message = refusal(path)
    assert "order of the classes" in message
    assert "--class-order FILE" in message


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("conv4b", None, " is not of net 145: it has no layer conv4b"),
        (
            "conv2a",
            {"weights": [np.zeros((1200, 129), "f")]},
            ": conv2a, the matrix of pool1a_neuron has the shape (1200, 129), expected (1200, 128)",
        ),
        ("fc2048a", {"weights": [np.zeros((4608, 32), "f")]}, "it has 2 weight matrices"),
        ("fc2048a", {"inputs": ["pool3a"]}, "it has 2 weight matrices"),
        ("fc2048a", {"weights": np.zeros((2, 4608, 32), "f")}, "it has 2 weight matrices"),
        ("fc2048a", {"inputs": ["pool3a", "pool3a"]}, "inputs that cannot be told apart"),
        ("fc2048a", {"inputs": ["pool3a", None]}, "inputs that cannot be told apart"),
        (
            "conv5b",
            {"biases": np.zeros((169 * 128, 1), "f")},
            ": conv5b, its bias has the shape (21632,), expected (128,)",
        ),
        ("conv5b", {"biases": None}, ": conv5b, its bias is no array"),
        ("conv5b", {"biases": np.zeros((128, 1), int)}, "bias is no array of floating point"),
        ("conv5b", {"biases": np.zeros((128, 1), object)}, "bias is no array of floating point"),
        ("conv5b", {"biases": np.full((128, 1), np.nan, "f")}, "bias has values that are not fin"),
        ("conv5b", {"biases": np.full((128, 1), 1e300)}, "bias has values that are not finite"),
    ],
)
def test_another_network_is_refused(
    tmp_path: Path, classes: Path, weights: Any, name: str, change: Any, complaint: str
) -> None:
    changed = {**weights, name: {**weights[name], **(change or {})}}
    if change is None:
        del changed[name]
    path = put(tmp_path / "1.1", checkpoint(changed))
    message = refusal(path, classes)
    assert message.startswith(str(path))
    assert complaint in message


@pytest.mark.parametrize("form", [dict, as_list, "zip"])
def test_any_damage_to_the_file_is_reported_in_one_sentence(
    tmp_path: Path, classes: Path, monkeypatch: pytest.MonkeyPatch, form: Any
) -> None:
    network = AlexNet(1000, "alexnet2012", dropout=0.0)
    monkeypatch.setattr("training.importers.cuda_convnet.AlexNet", lambda *_, **__: network)
    path = tmp_path / "1.1"
    whole = to_pickle(checkpoint((as_list if form is as_list else dict)(layers(tiny=True))))
    if form == "zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("data", whole)
        whole = buffer.getvalue()
    for end in range(0, len(whole), 1 + len(whole) // 50):
        path.write_bytes(whole[:end])
        refusal(path, classes)
    for position in range(0, len(whole), 1 + len(whole) // 120):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        refusal(path, classes)
