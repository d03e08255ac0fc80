"""Checkpoints of 2012, as Python 2 wrote them, against a reimplementation of the original."""

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from alexnet.labels import Labels
from training.checkpoint import CheckpointError
from training.importers import load_model
from training.network import AlexNet

Maps = NDArray[np.float64]
HALF = 32  # hidden units of a column; 2048 in the original

# layer: its inputs in the original's order, the rows of each matrix (channels * k * k, or inputs of
# a fully connected layer), and its filters
LAYERS: dict[str, tuple[list[str], int, int]] = {
    "conv1a": (["data"], 3 * 121, 48),
    "conv1b": (["data"], 3 * 121, 48),
    "conv2a": (["pool1a_neuron"], 48 * 25, 128),
    "conv2b": (["pool1b_neuron"], 48 * 25, 128),
    "conv3a": (["pool2a", "pool2b"], 128 * 9, 192),
    "conv3b": (["pool2a", "pool2b"], 128 * 9, 192),
    "conv4a": (["conv3a_neuron"], 192 * 9, 192),
    "conv4b": (["conv3b_neuron"], 192 * 9, 192),
    "conv5a": (["conv4a_neuron"], 192 * 9, 128),
    "conv5b": (["conv4b_neuron"], 192 * 9, 128),
    "fc2048a": (["pool3a_neuron", "pool3b_neuron"], 128 * 36, HALF),
    "fc2048b": (["pool3a_neuron", "pool3b_neuron"], 128 * 36, HALF),
    "fc2048ba": (["hs1a", "hs1b"], HALF, HALF),
    "fc2048bb": (["hs1b", "hs1a"], HALF, HALF),
    "fc1000": (["hs2a", "hs2b"], HALF, 1000),
}

pytestmark = pytest.mark.usefixtures("narrow")


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as a `str` of Python 2."""

    def save_string(self, text: str | bytes) -> None:
        data = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)  # type: ignore[attr-defined]

    dispatch: ClassVar[Any] = {**pickle._Pickler.dispatch, str: save_string, bytes: save_string}


def to_pickle(contents: Any) -> bytes:
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(contents)
    return buffer.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def layers(order: Any = "C", swapped: tuple[str, ...] = (), tiny: bool = False) -> Any:
    """Layers by name, with weights that preserve the scale of activations.

    Those in `swapped` list their inputs and matrices in reverse order.
    """
    random = np.random.default_rng(0)
    result = {}
    for name, (inputs, rows, filters) in LAYERS.items():
        shape = (1, 2) if tiny else (rows, filters)
        sigma = 0.01 if name.startswith("conv1") else (2 / (rows * len(inputs))) ** 0.5
        matrices = [random.normal(0, sigma, shape).astype(np.float32) for _ in inputs]
        bias = random.normal(0, 0.5, (shape[1], 1) if "conv" in name else (1, shape[1]))
        step = -1 if name in swapped else 1
        result[name] = {
            "name": name,
            "type": "conv" if "conv" in name else "fc",
            "inputs": inputs[::step],
            "weights": [np.array(matrix, order=order) for matrix in matrices[::step]],
            "biases": bias.astype(np.float32),
            "epsB": np.float64(0.02),
            "filters": filters,
        }
    return result


def as_list(by_name: Any) -> list[Any]:
    """The form of cuda-convnet 1: a list with positions as inputs, and with more layers."""
    names = sorted({i for layer in by_name.values() for i in layer["inputs"]} | set(by_name))
    return [
        {**by_name[name], "inputs": [names.index(i) for i in by_name[name]["inputs"]]}
        if name in by_name
        else {"name": name, "type": "neuron"}
        for name in names
    ]


def checkpoint(layers: Any) -> dict[str, Any]:
    return {"model_state": {"layers": layers, "epoch": 90}, "op": {}}


def put(path: Path, contents: Any) -> Path:
    path.write_bytes(to_pickle(contents))
    return path


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """A file with another order than ours."""
    synsets = [label.synset for label in Labels.imagenet().rows]
    np.random.default_rng(3).shuffle(synsets)
    path = tmp_path / "classes.txt"
    path.write_text("\n\n".join(f"{synset} some name" for synset in synsets) + "\n")
    return path


def compute_as_the_original(layers: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Pixels (224, 224, 3) -> logits in the checkpoint's order, column by column."""
    maps: dict[str, Maps] = {}
    photo = pixels.astype(np.float64) - (127.226, 118.587, 103.448)
    maps["data"] = np.pad(photo.transpose(2, 0, 1), ((0, 0), (0, 3), (0, 3)))

    def convolve(name: str, k: int, stride: int, padding: int) -> Maps:
        layer, total = layers[name], np.float64(0)
        for source, matrix in zip(layer["inputs"], layer["weights"], strict=True):
            x = np.pad(maps[source], ((0, 0), (padding, padding), (padding, padding)))
            taps = sliding_window_view(x, (k, k), (1, 2))[:, ::stride, ::stride]
            rows = taps.transpose(1, 2, 0, 3, 4).reshape(-1, x.shape[0] * k * k)
            total = total + (rows @ matrix + layer["biases"].ravel() / len(layer["inputs"]))
        return np.asarray(total).T.reshape(-1, *taps.shape[1:3])

    def connect(name: str) -> Maps:
        layer = layers[name]
        total: Maps = layer["biases"].ravel().astype(np.float64)
        for source, matrix in zip(layer["inputs"], layer["weights"], strict=True):
            total = total + maps[source].ravel() @ matrix
        return total

    for c in "ab":
        x = pool(across_maps(convolve(f"conv1{c}", 11, 4, 0)))
        maps[f"pool1{c}_neuron"] = x.clip(0)
        x = convolve(f"conv2{c}", 5, 1, 2).clip(0)
        maps[f"pool2{c}"] = pool(in_the_map(across_maps(x)))
    for c in "ab":
        maps[f"conv3{c}_neuron"] = convolve(f"conv3{c}", 3, 1, 1).clip(0)
        maps[f"conv4{c}_neuron"] = convolve(f"conv4{c}", 3, 1, 1).clip(0)
        maps[f"pool3{c}_neuron"] = pool(convolve(f"conv5{c}", 3, 1, 1)).clip(0)
    for c in "ab":
        maps[f"hs1{c}"] = 0.5 * connect(f"fc2048{c}").clip(0)
    for c in "ab":
        maps[f"hs2{c}"] = 0.5 * connect(f"fc2048b{c}").clip(0)
    return connect("fc1000")


def pool(x: Maps) -> Maps:
    return np.asarray(sliding_window_view(x, (3, 3), (1, 2))[:, ::2, ::2].max((3, 4)))


def across_maps(x: Maps) -> Maps:
    sums = [np.square(x[max(0, i - 2) : i + 3]).sum(0) for i in range(len(x))]
    return x / (2 + 2e-5 * np.stack(sums)) ** 0.75


def in_the_map(x: Maps) -> Maps:
    squares = np.pad(np.square(x), ((0, 0), (2, 2), (2, 2)))
    sums = sliding_window_view(squares, (5, 5), (1, 2)).sum((3, 4))
    return np.asarray(x / (1 + 4e-5 * sums) ** 0.75)


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
