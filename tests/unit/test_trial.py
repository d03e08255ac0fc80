"""A graph that takes all memory or time is one sentence, and costs a process that ends."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper
from prometheus_client import CollectorRegistry

from alexnet.bundle import Bundle, sha256
from alexnet.manifest import BundleError
from server.engines.choice import Wanted
from server.engines.trial import try_graph
from server.models.opener import Opener
from server.models.sources import Source
from server.scheduler.batcher import BatchPolicy
from server.telemetry.metrics import Metrics
from tests.bundles import grey_bundle

pytestmark = pytest.mark.process
BUNDLE = grey_bundle()
(ARTIFACT,) = BUNDLE.manifest.artifacts


def with_nodes(*nodes: Any, **constants: list[int]) -> bytes:
    """The grey network; what it adds is read from `mean`, and makes the `extra` of its logits."""
    model = ModelProto.FromString(BUNDLE.files[ARTIFACT.file])
    values = {name: np.array(value, np.int64) for name, value in constants.items()}
    model.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in values.items())
    del model.graph.node[-1]
    reduced = helper.make_node("ReduceMax", ["large"], ["extra"], keepdims=0)
    last = helper.make_node("Sub", ["extra", "far"], ["logits"])
    model.graph.node.extend([*nodes, reduced, last])
    data: bytes = model.SerializeToString()
    return data


def memory() -> bytes:
    """40 GB, of a number that stands in the file."""
    grown = helper.make_node("ConstantOfShape", ["shape"], ["large"])
    return with_nodes(grown, shape=[100_000, 100_000])


def memory_of_the_photo() -> bytes:
    grown = helper.make_node("Expand", ["mean", "shape"], ["large"])
    return with_nodes(grown, shape=[10_000_000_000, 1])


def hours() -> bytes:
    """Products of matrices, again and again, whose memory is small."""
    nodes = [helper.make_node("Expand", ["mean", "shape"], ["x0"])]
    nodes += [helper.make_node("MatMul", [f"x{i}", f"x{i}"], [f"x{i + 1}"]) for i in range(300)]
    return with_nodes(*nodes, helper.make_node("Identity", ["x300"], ["large"]), shape=[3000, 3000])


@pytest.mark.parametrize("graph", [memory, memory_of_the_photo])
def test_a_graph_that_takes_all_memory_is_one_sentence(graph: Any) -> None:
    start = time.monotonic()
    with pytest.raises(
        BundleError, match=r"^its graph cannot be run: it takes more than 3,072 MB of"
    ):
        try_graph(graph(), BUNDLE.manifest, 1)
    assert time.monotonic() - start < 30


def test_a_graph_that_takes_hours_is_one_sentence() -> None:
    with pytest.raises(BundleError, match="more than 1 s of a CPU"):
        try_graph(hours(), BUNDLE.manifest, 1, cpu_s=1)


async def test_it_is_tried_beside_versions_that_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = memory()
    artifact = replace(ARTIFACT, sha256=sha256(graph))
    manifest = replace(BUNDLE.manifest, artifacts=(artifact,))
    hostile = Bundle(manifest, {**BUNDLE.files, artifact.file: graph}, "hostile")
    monkeypatch.setattr(Bundle, "open", lambda path: hostile)
    unused = cast(Any, None)
    opener = Opener(
        Wanted(engine="onnxruntime-cpu"), BatchPolicy(4), unused, Metrics(CollectorRegistry())
    )
    with pytest.raises(BundleError, match=r"hostile, model\.fake: its graph"):
        await opener.open(Source("2", Path("nowhere"), ""), cast(Any, ["another version"]))


def test_a_graph_that_runs_is_nothing_to_speak_of() -> None:
    try_graph(BUNDLE.files[ARTIFACT.file], BUNDLE.manifest, 4)
