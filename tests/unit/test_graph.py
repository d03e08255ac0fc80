"""A graph that would never end, or that reads other files, is refused before a runtime gets it."""

import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from alexnet.bundle import Bundle
from alexnet.manifest import BundleError
from server.engines.graph import check_graph
from tests.bundles import grey_bundle
from tests.paths import STARTER


def model() -> ModelProto:
    bundle = grey_bundle()
    (artifact,) = bundle.manifest.artifacts
    return ModelProto.FromString(bundle.files[artifact.file])


def endless() -> bytes:
    """A Loop of 2^63 - 1 rounds whose condition stays true."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes_on"]),
            helper.make_node("Identity", ["x"], ["y"]),
        ],
        "body",
        [
            value("round", TensorProto.INT64, []),
            value("going", TensorProto.BOOL, []),
            value("x", TensorProto.FLOAT, None),
        ],
        [value("goes_on", TensorProto.BOOL, []), value("y", TensorProto.FLOAT, None)],
    )
    graph = model()
    rounds = numpy_helper.from_array(np.array(2**63 - 1), "rounds")
    going = numpy_helper.from_array(np.array(True), "yes")
    graph.graph.initializer.extend([rounds, going])
    loop = helper.make_node("Loop", ["rounds", "yes", "values"], ["looped"], body=body)
    graph.graph.node.insert(1, loop)
    return bytes(graph.SerializeToString())


def elsewhere() -> bytes:
    graph = model()
    tensor = graph.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/dev/zero"
    return bytes(graph.SerializeToString())


def functions() -> bytes:
    graph = model()
    graph.functions.add().name = "f"
    return bytes(graph.SerializeToString())


def many_nodes() -> bytes:
    return b"\x3a\x80\x80\x80\x01" + b"\x0a\x00" * (1 << 20)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (endless, "loop"),
        (elsewhere, "another file"),
        (functions, "functions"),
        (many_nodes, "more than"),
    ],
)
def test_what_need_not_end_or_lies_elsewhere_is_refused(
    make: Callable[[], bytes], why: str
) -> None:
    began = time.process_time()
    with pytest.raises(BundleError, match=why):
        check_graph(make())
    assert time.process_time() - began < 1


def test_the_graphs_of_our_own_bundles_pass_in_no_time() -> None:
    bundle = Bundle.open(STARTER)
    began = time.process_time()
    for artifact in bundle.manifest.artifacts:
        check_graph(bundle.files[artifact.file])
    assert time.process_time() - began < 0.1


def test_what_is_no_graph_is_left_to_the_runtime() -> None:
    rng = np.random.default_rng(0)
    for size in (*range(64), 10_000):
        check_graph(bytes(size))
        check_graph(b"\xff" * size)
        for _ in range(20):
            with suppress(BundleError):
                check_graph(rng.bytes(size))
