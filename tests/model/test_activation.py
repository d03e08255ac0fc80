"""`explain=cam` against torch's gradient, of the graphs that are exported."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from alexnet.bundle import Bundle
from alexnet.manifest import Manifest
from alexnet.preprocess import preprocess
from export.precision import calibrate, to_int8
from export.sequence import sequence
from export.to_onnx import to_onnx
from server.engines.activation import Activation
from server.engines.onnx_file import read_onnx
from server.engines.ort import OrtEngine
from tests.networks import PLAIN, SIDES, photos, random_model
from tests.paths import ROOT, STARTER
from training.importers import TrainedModel


def manifest() -> Manifest:
    return Bundle.open(STARTER).manifest  # only the names of input and output are asked for


def grad_cam(model: TrainedModel, crop: NDArray[np.uint8], index: int) -> NDArray[np.float32]:
    """As the paper has it, with torch's own gradient of one logit."""
    modules = sequence(model.network)
    last = max(i for i, module in enumerate(modules) if isinstance(module, nn.Conv2d)) + 1
    assert isinstance(modules[last], nn.ReLU)
    kept: list[torch.Tensor] = []

    def keep(module: nn.Module, _: object, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()  # the ReLU works in place
        output.retain_grad()
        kept.append(output)
        return output

    pixels = (torch.from_numpy(crop[None]) - model.deployable.mean) / torch.tensor(model.std)
    x = pixels.permute(0, 3, 1, 2).requires_grad_()
    for i, module in enumerate(modules):
        x = module(x)
        if i == last:
            x = keep(module, None, x)
    x[0, index].backward()
    (maps,) = kept
    assert maps.grad is not None
    weights = maps.grad[0].mean((1, 2))
    cam = (weights[:, None, None] * maps[0]).sum(0).clamp(min=0)
    return (cam / cam.max().clamp(min=1e-30)).detach().numpy()


@pytest.mark.parametrize("arch", PLAIN)
def test_it_is_torchs_grad_cam(arch: str) -> None:
    model, crops = random_model(arch), photos(SIDES[arch], 2)
    engine = OrtEngine(to_onnx(model, SIDES[arch]), manifest(), 1)
    assert engine.activation is not None
    logits, inside = engine.look_inside(crops)
    np.testing.assert_array_equal(logits, engine.run(crops))
    for crop, seen, row in zip(crops, inside, logits, strict=True):
        for index in (int(row.argmax()), int(row.argmin())):
            ours = engine.activation.shares(seen, index)
            np.testing.assert_allclose(ours, grad_cam(model, crop, index), atol=2e-3)


def test_in_int8_it_is_nearly_so() -> None:
    model, crops = random_model("alexnet"), photos(224, 8)
    whole = OrtEngine(to_onnx(model, 224), manifest(), 1)
    small = OrtEngine(to_int8(model, 224, calibrate(model, crops)), manifest(), 1)
    assert whole.activation is not None
    assert small.activation is not None
    logits, exact = whole.look_inside(crops)
    for row, seen, rounded in zip(logits, exact, small.look_inside(crops)[1], strict=True):
        index = int(row.argmax())
        a, b = whole.activation.shares(seen, index), small.activation.shares(rounded, index)
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.95


def test_of_the_sample_photo_the_jellyfish_is_what_counts() -> None:
    """Hidden are the places that speak most for it, or as many that speak least."""
    bundle = Bundle.open(STARTER)
    sample = (ROOT / "server/api/web/static/sample.jpg").read_bytes()
    crop = preprocess(sample, bundle.manifest.preprocess).crop
    engine = OrtEngine(bundle.files[bundle.manifest.artifacts[0].file], bundle.manifest, 1)
    assert engine.activation is not None
    logits, (seen,) = engine.look_inside(crop[None])
    index = int(logits[0].argmax())
    shares = engine.activation.shares(seen, index)
    side = -(-len(crop) // len(shares))
    big = np.kron(shares, np.ones((side, side), np.float32))[: len(crop), : len(crop)]
    most, least = (big > np.quantile(big, 0.75)), (big < np.quantile(big, 0.25))
    hidden = [np.where(mask[..., None], 128, crop).astype(np.uint8) for mask in (most, least)]
    without = engine.run(np.stack(hidden))[:, index]
    assert without[0] < without[1]


def test_a_graph_that_ends_otherwise_has_none() -> None:
    model = random_model("alexnet")
    onnx = to_onnx(model, 224)
    file = read_onnx(onnx)
    assert Activation.of(file)
    cut = [node for node in file.nodes if node.op != "Reshape"]
    assert Activation.of(type(file)(tuple(cut), file.constants)) is None
    assert Activation.of(read_onnx(b"")) is None
