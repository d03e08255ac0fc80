"""What `/model` says of a network, against what torch knows of it."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from alexnet.bundle import Bundle
from export.to_onnx import to_onnx
from server.engines.anatomy import dissect
from server.engines.ort import OrtEngine
from tests.networks import SIDES, random_model
from tests.paths import STARTER


def served(onnx: bytes, side: int, threads: int = 1) -> Any:
    """As much of a Model as is looked at."""
    manifest = SimpleNamespace(
        preprocess=SimpleNamespace(crop=side),
        input=SimpleNamespace(name="images"),
        output=SimpleNamespace(name="logits"),
    )
    bundle = SimpleNamespace(files={"model.onnx": onnx}, manifest=manifest)
    engine = OrtEngine(onnx, manifest, threads)  # type: ignore[arg-type]
    return SimpleNamespace(
        bundle=bundle, artifact=SimpleNamespace(file="model.onnx"), engine=engine
    )


@pytest.mark.parametrize("arch", ["alexnet", "alexnet2012"])
def test_layers_are_those_of_the_network(arch: str) -> None:
    model, side = random_model(arch), SIDES[arch]
    shapes: list[tuple[int, ...]] = []
    layers: list[nn.Module] = [*model.network.layers]
    for layer in layers:
        layer.register_forward_hook(lambda *hooked: shapes.append(tuple(hooked[2].shape[1:])))
    with torch.inference_mode():
        model.deployable(torch.zeros(1, side, side, 3, dtype=torch.uint8))
    anatomy = dissect(served(to_onnx(model, side), side))
    names = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
    assert [fact.name for fact in anatomy.layers] == names
    assert [fact.output for fact in anatomy.layers] == shapes
    for fact, layer in zip(anatomy.layers, layers, strict=True):
        weight: Any = layer.weight
        assert fact.weights == tuple(weight.shape)
        assert fact.macs == weight.numel() * int(np.prod(fact.output[1:]))
        assert fact.ms is not None
        assert fact.ms > 0
    assert anatomy.rest_ms is not None
    assert anatomy.filters is not None
    assert anatomy.filters.shape[0] * anatomy.filters.shape[1] == len(layers[0].weight)  # type: ignore[arg-type]


def test_of_a_pruned_bundle_the_zeros_are_told_and_its_filters_are_in_colour() -> None:
    bundle = Bundle.open(STARTER)
    (artifact,) = bundle.manifest.artifacts
    engine = OrtEngine(bundle.files[artifact.file], bundle.manifest, 1)
    anatomy = dissect(SimpleNamespace(bundle=bundle, artifact=artifact, engine=engine))  # type: ignore[arg-type]
    # The paper's 60 million, less what folding fc6 for 128 px takes away: 27 of 36 places.
    assert sum(fact.parameters for fact in anatomy.layers) == 61_090_496 - 27 * 256 * 4096
    # Fewer of fc6, whose folded weights are sums; how many depends on where the zeros lie.
    zeros = [fact.zeros for fact in anatomy.layers[-3:]]
    assert zeros[1:] == pytest.approx([0.7, 0.7], abs=0.02)
    assert 0.5 < zeros[0] < zeros[1]
    assert anatomy.filters is not None
    assert anatomy.filters.shape == (8, 8, 11, 11, 3)
    assert anatomy.filters.min() <= 1
    assert anatomy.filters.max() == 255


def test_an_engine_of_another_kind_tells_no_time() -> None:
    bundle = Bundle.open(STARTER)
    anatomy = dissect(
        SimpleNamespace(bundle=bundle, artifact=bundle.manifest.artifacts[0], engine=object())  # type: ignore[arg-type]
    )
    assert {fact.ms for fact in anatomy.layers} == {None}
    assert anatomy.rest_ms is None


def test_a_graph_that_is_no_chain_of_layers_has_none() -> None:
    bundle = SimpleNamespace(
        files={"x": b""}, manifest=SimpleNamespace(preprocess=SimpleNamespace(crop=8))
    )
    anatomy = dissect(SimpleNamespace(bundle=bundle, artifact=SimpleNamespace(file="x"), engine=0))  # type: ignore[arg-type]
    assert anatomy.layers == ()
    assert anatomy.filters is None
