"""A teacher: a network in an ONNX file that answers photos, run by ONNX Runtime.

A JSON file beside it, `teacher.json` for `teacher.onnx`, says how it wants photos:

    {
      "input": "images", "layout": "NCHW", "side": 224, "resize": 256,
      "mean": [127, 127, 127], "scale": [128, 128, 128],
      "output": "logits", "classes": "imagenet"
    }

Its input is (value - mean) / scale of RGB values between 0 and 255; one number stands for three
equal ones. `resize` is the shorter side in px of the whole photo from which the central `side` px
are cut when the teacher is scored. `output` is logits or probabilities: of the graph's first
output. `classes` are ImageNet's 1000 in sorted order, or a list of synsets or names in the order
of the outputs.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.bundle import sha256
from alexnet.int8_kernels import exact_sums
from alexnet.labels import Label, Labels
from alexnet.onnx_runtime import onnxruntime
from alexnet.postprocess import softmax
from alexnet.spec import Preprocess

BATCH = 32
LAYOUTS = ("NCHW", "NHWC")
OUTPUTS = ("logits", "probabilities")


class TeacherError(ValueError):
    """The teacher cannot be asked; the message says why, in one sentence."""


@dataclass(frozen=True)
class Description:
    """The JSON file of a teacher."""

    input: str
    layout: str
    side: int
    resize: int
    mean: tuple[float, float, float]
    scale: tuple[float, float, float]
    output: str
    classes: Labels

    @property
    def preprocess(self) -> Preprocess:
        """How a photo becomes the square on which the teacher is scored."""
        return Preprocess(self.resize, self.side)

    @classmethod
    def read(cls, path: Path) -> "Description":
        """Raises TeacherError that names the key at fault."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise TeacherError(
                f"there is no {path}, which says how the teacher wants photos"
            ) from None
        except ValueError as error:
            raise TeacherError(f"{path} is not JSON: {error}") from None
        names = {field.name for field in fields(cls)}
        if not isinstance(data, dict) or data.keys() != names:
            raise TeacherError(f"{path} needs exactly the keys {', '.join(sorted(names))}")
        try:
            return cls(
                input=_one_of(data, "input", (data["input"],)),
                layout=_one_of(data, "layout", LAYOUTS),
                side=_side(data, "side", 1),
                resize=_side(data, "resize", data["side"]),
                mean=_per_channel(data, "mean"),
                scale=_per_channel(data, "scale", least=1e-6),
                output=_one_of(data, "output", OUTPUTS),
                classes=_classes(data["classes"]),
            )
        except ValueError as error:
            raise TeacherError(f"{path}: {error}") from None


class Teacher:
    """A function: (N, side, side, 3) uint8 crops -> (N, classes) float32 probabilities."""

    def __init__(self, path: Path):
        """Raises TeacherError."""
        self.name = path.stem
        self.description = Description.read(path.with_suffix(".json"))
        self.labels = self.description.classes
        try:
            self.sha256 = sha256(_contents(path))
        except OSError as error:
            raise TeacherError(f"{path} cannot be read: {error.strerror or error}") from None
        options = onnxruntime.SessionOptions()
        exact_sums(options)
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own errors have no common class but Exception
            reason = str(error).splitlines()[0]
            raise TeacherError(f"{path} is no graph that ONNX Runtime reads: {reason}") from None
        self._batch = self._check_input(path)

    def _check_input(self, path: Path) -> int:
        """The largest batch that the graph takes; raises TeacherError if the JSON does not fit."""
        d = self.description
        inputs = {value.name: value for value in self._session.get_inputs()}
        if list(inputs) != [d.input]:
            raise TeacherError(f"{path} has the inputs {', '.join(inputs)}, not {d.input!r} alone")
        shape, kind = inputs[d.input].shape, inputs[d.input].type
        wanted = (3, d.side, d.side) if d.layout == "NCHW" else (d.side, d.side, 3)
        sizes = shape[1:]
        fits = len(sizes) == 3 and all(
            not isinstance(size, int) or size == want
            for size, want in zip(sizes, wanted, strict=True)
        )
        if kind != "tensor(float)" or not fits:
            raise TeacherError(f"{path} takes {kind} {shape}, its JSON says float {wanted}")
        return shape[0] if isinstance(shape[0], int) else BATCH

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Raises TeacherError if the answers are not what the JSON says."""
        starts = range(0, len(crops), self._batch)
        return np.concatenate([self._ask(crops[i : i + self._batch]) for i in starts])

    def _ask(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        d, count = self.description, len(crops)
        mean, scale = (np.array(value, np.float32) for value in (d.mean, d.scale))
        x = (crops - mean) / scale
        if d.layout == "NCHW":
            x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        if self._batch != BATCH and count < self._batch:  # the graph takes no fewer
            x = np.resize(x, (self._batch, *x.shape[1:]))
        name = self._session.get_outputs()[0].name
        answers = self._session.run([name], {d.input: x})[0][:count].astype(np.float32)
        if answers.shape != (count, len(self.labels)):
            raise TeacherError(
                f"{self.name} answers with the shape {answers.shape}, but has {len(self.labels)} "
                "classes by its JSON"
            )
        if not np.isfinite(answers).all():
            raise TeacherError(f"{self.name} gave an answer that is not finite")
        if d.output == "logits":
            return softmax(answers)
        if answers.min() < 0 or np.abs(answers.sum(1) - 1).max() > 0.01:
            raise TeacherError(f"{self.name} answers with logits, its JSON says probabilities")
        return answers


def _contents(path: Path) -> bytes:
    """The graph, its weights if they are in a file of their own, and the JSON."""
    weights = path.with_name(f"{path.name}.data")
    files = (path, weights, path.with_suffix(".json"))
    return b"".join(file.read_bytes() for file in files if file != weights or file.exists())


def _one_of(data: dict[str, Any], key: str, known: tuple[Any, ...]) -> str:
    value = data[key]
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{key} cannot be {value!r}" + f": {' or '.join(map(str, known))}")
    return value


def _side(data: dict[str, Any], key: str, least: Any) -> int:
    value = data[key]
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 4096:
        raise ValueError(f"{key} cannot be {value!r}: px from {least} to 4096")
    return value


def _per_channel(
    data: dict[str, Any], key: str, least: float = float("-inf")
) -> tuple[float, float, float]:
    value = data[key]
    values = value if isinstance(value, list) else [value] * 3
    plain = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if len(values) != 3 or not plain or min(values) < least:
        raise ValueError(f"{key} cannot be {value!r}: a number, or three, for red, green and blue")
    return float(values[0]), float(values[1]), float(values[2])


def _classes(value: Any) -> Labels:
    if value == "imagenet":
        return Labels.imagenet()
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError('classes are "imagenet" or a list of names')
    return Labels(tuple(Label(name, name) for name in value))
