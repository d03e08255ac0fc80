"""Our own bundle, a folder or `.tar.xz`: the weights of its fp32 graph, else those of int8.

The names of the constants are those that export gives them (export/to_onnx.py and
export/precision.py). Which of the AlexNets it is, the golden batch tells: the one that computes
what the bundle's network computed.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet.bundle import MANIFEST, Bundle, BundleError
from alexnet.extras import installing
from alexnet.golden import GoldenMismatch
from alexnet.manifest import Artifact
from alexnet.spec import PIXEL_SCALE, PIXEL_ZERO
from training.checkpoint import CheckpointError
from training.fold import unfolded
from training.importers.base import TrainedModel, reason, to_float32
from training.network import ARCHITECTURES, AlexNet

LAYERS = 8
FC6 = 5
SLACK = 0.02  # of the golden batch: an int8 graph rounds what these weights do not

Constants = dict[str, NDArray[Any]]


def recognises(path: Path) -> bool:
    """Whether this is a packed bundle, or a folder with a manifest."""
    return path.name.endswith(".tar.xz") or (path / MANIFEST).is_file()


def load(path: Path) -> TrainedModel:
    try:
        bundle = Bundle.open(path)
        artifacts = {a.precision: a for a in bundle.manifest.artifacts}
        labels = bundle.labels
    except BundleError as error:
        raise CheckpointError(str(error)) from None
    artifact = artifacts.get("fp32") or artifacts.get("int8")
    if artifact is None:
        raise CheckpointError(f"{path} has no weights in fp32 or int8")
    constants = _constants(bundle.files[artifact.file], path)
    manifest = bundle.manifest
    facts = {
        "lineage": manifest.provenance.recipe.split(", then "),
        "commit": manifest.provenance.commit,
        "photos": manifest.provenance.train_photos,
        "train_minutes": manifest.provenance.train_minutes,
    }
    if "mean_map" in constants:
        raise CheckpointError(
            f"the mean image of {path} cannot be read from int8: export it with fp32, too"
        )
    # int8 takes (p - 128) / 64: its own mean and std are folded into conv1.
    pixel_mean = constants.get("mean")
    is_image = pixel_mean is not None and pixel_mean.ndim == 3
    image = torch.tensor(pixel_mean) if is_image else None
    mean = _per_channel(pixel_mean, PIXEL_ZERO)
    std = _per_channel(constants.get("std"), PIXEL_SCALE)
    networks = _networks(constants, len(labels), path)
    models = [
        TrainedModel(
            network, mean, std, labels, manifest.model.known_classes, facts, artifact.sha256,
            manifest.preprocess.crop, manifest.preprocess.geometry, image,
            manifest.taught, manifest.calibration,
        )
        for network in networks
    ]  # fmt: skip
    return _proven(models, bundle, artifact, path)


def _constants(data: bytes, path: Path) -> Constants:
    """The constants of the graph by name; those of the layers in float32, out of int8 too."""
    try:
        import onnx  # of the extra `export`: training from photos alone does not need it
        from onnx import numpy_helper
    except ImportError:
        raise CheckpointError(
            f"reading the bundle {path} needs onnx: {installing('export')}, or pass --init none to "
            "train from scratch"
        ) from None
    try:
        graph = onnx.load_model_from_string(data).graph
        if elsewhere := [c.name for c in graph.initializer if c.data_location == c.EXTERNAL]:
            raise ValueError(f"{elsewhere[0][:80]} lies in another file")
        found: Constants = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
        for name in [f"{kind}{i}" for kind in "wb" for i in range(LAYERS)]:
            if f"{name}_q" in found:
                found[name] = _dequantised(found, name)
    except Exception as error:  # a damaged protobuf raises almost anything
        raise CheckpointError(f"{path} holds a damaged graph: {reason(error)}") from None
    return found


def _dequantised(found: Constants, name: str) -> NDArray[np.float32]:
    stored, scale, zero = (found[f"{name}_{part}"] for part in ("q", "scale", "zero"))
    shape = (-1, *[1] * (stored.ndim - 1))
    whole = stored.astype(np.float64) - zero.reshape(shape).astype(np.float64)
    return (whole * scale.reshape(shape)).astype(np.float32)


def _per_channel(values: NDArray[Any] | None, default: float) -> tuple[float, ...]:
    if values is None:
        return (float(default),) * 3
    return tuple(map(float, values.reshape(-1, 3).mean(0)))


@torch.no_grad()
def _networks(constants: Constants, classes: int, path: Path) -> list[AlexNet]:
    """Every plain AlexNet whose layers have these shapes, with these weights; fc6 may be folded for
    smaller crops."""
    names = [f"{kind}{i}" for kind in "wb" for i in range(LAYERS)]
    if missing := [name for name in names if name not in constants]:
        raise CheckpointError(f"{path} holds no AlexNet: its graph has no {missing[0]}")
    found = [constants[f"w{i}"].shape for i in range(LAYERS)]
    networks = []
    for arch, architecture in ARCHITECTURES.items():
        if architecture.batch_norm:
            continue
        with torch.device("meta"):
            shapes = [tuple(layer.weight.shape) for layer in AlexNet(classes, arch).layers]
        if shapes[FC6] != found[FC6] and _folded(found[FC6]):
            shapes[FC6] = (shapes[FC6][0], found[FC6][1])
        if shapes != found:
            continue
        fc6 = unfolded(torch.from_numpy(constants[f"w{FC6}"].copy()), architecture.pooled)
        stored = {**constants, f"w{FC6}": fc6.numpy()}
        network = AlexNet(classes, arch, dropout=0.0).eval()
        for i, layer in enumerate(network.layers):
            for own, name in ((layer.weight, f"w{i}"), (layer.bias, f"b{i}")):
                assert own is not None  # it is plain
                values = torch.from_numpy(stored[name].copy())
                own.copy_(to_float32(values, tuple(own.shape), f"{path}: {name}"))
        networks.append(network)
    if not networks:
        raise CheckpointError(f"{path} holds no AlexNet: its layers have other shapes")
    return networks


def _folded(shape: tuple[int, ...]) -> bool:
    """Whether these can be the weights of fc6, folded for crops of another size."""
    return len(shape) == 2 and shape[1] in {256 * side**2 for side in range(1, 7)}


def _proven(
    models: list[TrainedModel], bundle: Bundle, artifact: Artifact, path: Path
) -> TrainedModel:
    """The model that computes the golden batch."""
    try:
        golden = bundle.golden
        crops = torch.from_numpy(golden.crops)
        with torch.inference_mode():
            differences = [golden.difference(m.deployable(crops).numpy()) for m in models]
    except (BundleError, GoldenMismatch, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be proven: {reason(error)}") from None
    least = min(differences)
    if not least <= artifact.tolerance + SLACK:
        raise CheckpointError(
            f"the weights of {path} do not compute what its golden batch says: "
            f"probabilities differ by {least:.3f}"
        )
    return models[differences.index(least)]
