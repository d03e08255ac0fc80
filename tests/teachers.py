"""A tiny teacher for the photos of `tests.photos.class_folders`, as an ONNX file."""

import colorsys
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 32


def hue_teacher(path: Path, classes: Sequence[str], order: Sequence[str], **changes: Any) -> Path:
    """Knows the hues that `class_folders` gives to `classes`; its outputs are in `order`.

    Writes the graph and its JSON; `changes` are keys of the latter.
    """
    facts = {
        "input": "photos", "layout": "NCHW", "side": SIDE, "resize": 36, "mean": 127,
        "scale": [128, 128, 128], "output": "logits", "classes": list(order),
    }  # fmt: skip
    facts |= changes
    hues = [colorsys.hsv_to_rgb(classes.index(name) / len(classes), 0.8, 0.8) for name in order]
    centres = (255 * np.array(hues) - 127) / 128
    # -20 |x - centre|^2, less what is the same for all classes
    weights = numpy_helper.from_array((40 * centres).astype(np.float32), "weights")
    bias = numpy_helper.from_array((-20 * (centres**2).sum(1)).astype(np.float32), "bias")
    axes = numpy_helper.from_array(
        np.array([2, 3] if facts["layout"] == "NCHW" else [1, 2]), "axes"
    )
    size = [3, SIDE, SIDE] if facts["layout"] == "NCHW" else [SIDE, SIDE, 3]
    nodes = [
        helper.make_node("ReduceMean", ["photos", "axes"], ["colour"], keepdims=0),
        helper.make_node("Gemm", ["colour", "weights", "bias"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "hues",
        [helper.make_tensor_value_info("photos", TensorProto.FLOAT, ["batch", *size])],
        [helper.make_tensor_value_info(facts["output"], TensorProto.FLOAT, ["batch", len(order)])],
        [weights, bias, axes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 8
    onnx.save(model, path)
    path.with_suffix(".json").write_text(json.dumps(facts))
    return path
