"""What a user of any server would write: photo to crop, crops to logits, logits to five classes.

Every peer's server imports it. Ours has its own way to decode and resize, which is part of what is
compared. MODEL names the folder that benchmarks/peers/model.py writes.
"""

import io
import json
import os
from pathlib import Path

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the import
import onnxruntime
from PIL import Image

BEST = 5
CORES = len(os.sched_getaffinity(0))


def read_spec() -> dict:
    """Sizes, and the labels of the classes."""
    return json.loads((Path(os.environ["MODEL"]) / "model.json").read_text())


class PhotoModel:
    """`threads` are those of a run: all cores, unless several processes run the network."""

    def __init__(self, threads: int = CORES) -> None:
        self.spec = read_spec()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # In the peers' favour: threads that spin take the cores from decoding.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Without it int8 saturates on CPUs that lack VNNI, and a third of the answers are wrong.
        # With VNNI it takes twice the time for the same answers.
        if "vnni" not in Path("/proc/cpuinfo").read_text():
            options.add_session_config_entry("session.x64quantprecision", "1")
        self._session = onnxruntime.InferenceSession(
            Path(os.environ["MODEL"]) / "model.onnx", options, providers=["CPUExecutionProvider"]
        )

    def classify(self, crops: np.ndarray) -> list[list[dict]]:
        """(n, side, side, 3) uint8 -> the best classes of each, the best first."""
        (logits,) = self._session.run(None, {self.spec["input"]: crops})
        order = np.argsort(-logits, axis=1)[:, :BEST]
        values = np.exp(logits - logits.max(axis=1, keepdims=True))
        values /= values.sum(axis=1, keepdims=True)
        labels = self.spec["labels"]
        return [
            [{"label": labels[i], "probability": float(row[i])} for i in best]
            for row, best in zip(values, order, strict=True)
        ]


def crop_of(photo: bytes, spec: dict) -> np.ndarray:
    """The centre of a photo, (side, side, 3) uint8, as the network was trained on it."""
    image = Image.open(io.BytesIO(photo)).convert("RGB")
    side = spec["crop"], spec["crop"]
    box = _centre(image, min(image.size) * spec["crop"] / spec["resize"])
    return np.asarray(image.resize(side, Image.Resampling[spec["interpolation"].upper()], box))


def _centre(image: Image.Image, side: float) -> tuple[float, float, float, float]:
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return left, top, left + side, top + side
