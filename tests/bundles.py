"""A bundle that ONNX Runtime really runs, and that opens in no time: ten shades of grey."""

from dataclasses import replace

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

from alexnet.bundle import Bundle, sha256
from alexnet.golden import Golden
from alexnet.manifest import File, ModelName
from tests.fakes import CLASSES, SIDE, tiny_bundle

CENTRES = 25 * np.arange(CLASSES, dtype=np.float32) + 12
"""The mean brightness that each class is nearest to."""


def grey_bundle(card: bytes = b"# grey\n") -> Bundle:
    """It takes the place of the starter where the process is looked at, and not the network."""
    onnx, golden = _network(), _golden()
    tiny = tiny_bundle()
    (artifact,) = tiny.manifest.artifacts
    manifest = replace(
        tiny.manifest,
        model=ModelName("alexnet", "1", CLASSES, CLASSES, "Ten shades of grey."),
        artifacts=(replace(artifact, sha256=sha256(onnx)),),
        golden=File("golden.npz", sha256(golden)),
        card=File("card.md", sha256(card)),
    )
    own = {artifact.file: onnx, "golden.npz": golden, "card.md": card}
    return Bundle(manifest, {**tiny.files, **own}, "grey")


def _network() -> bytes:
    """Logits are how far the mean brightness is from what each class is nearest to, negated."""
    nodes = [
        helper.make_node("Cast", ["images"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values", "axes"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "last"], ["column"]),
        helper.make_node("Sub", ["column", "centres"], ["off"]),
        helper.make_node("Abs", ["off"], ["far"]),
        helper.make_node("Neg", ["far"], ["logits"]),
    ]
    constants = {"axes": np.array([1, 2, 3]), "last": np.array([1]), "centres": CENTRES}
    graph = helper.make_graph(
        nodes,
        "grey",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _golden() -> bytes:
    crops = np.stack([np.full((SIDE, SIDE, 3), value, np.uint8) for value in (30, 160)])
    logits = -np.abs(crops.mean((1, 2, 3), dtype=np.float32)[:, None] - CENTRES)
    return Golden(crops, logits).to_bytes()
