"""Checkpoints as Python 2 wrote them in 2012, and what the original computed with them."""

import io
import pickle
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

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


def compute_as_the_original(
    layers: Any, pixels: NDArray[np.uint8], mean: Any = (127.226, 118.587, 103.448)
) -> NDArray[np.float64]:
    """Pixels (224, 224, 3) -> logits in the checkpoint's order, column by column."""
    maps: dict[str, Maps] = {}
    photo = pixels.astype(np.float64) - mean
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
