"""A graph that would never end, or that reads other files, is refused before a runtime gets it."""

import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from alexnet.bundle import Bundle
from alexnet.manifest import BundleError
from alexnet.onnx_runtime import onnxruntime
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


def sparse() -> bytes:
    """A constant with sparse values, which may lie in another file, too."""
    values = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    index = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    constant = helper.make_node(
        "Constant", [], ["c"], sparse_value=helper.make_sparse_tensor(values, index, [4])
    )
    graph = model()
    graph.graph.node.insert(0, constant)
    return bytes(graph.SerializeToString())


def functions() -> bytes:
    graph = model()
    graph.functions.add().name = "f"
    return bytes(graph.SerializeToString())


def behind_a_group() -> bytes:
    """An empty group of an unknown number, 1000, which protobuf skips."""
    return b"\xc3\x3e\xc4\x3e" + endless()


def with_a_long_key() -> bytes:
    """The graph's number, 7, with a bit above the 32 that protobuf looks at."""
    model = ModelProto.FromString(endless())
    graph: bytes = model.graph.SerializeToString()
    model.ClearField("graph")
    size = bytes([len(graph) & 127 | 128, len(graph) >> 7])
    assert len(graph) < 1 << 14
    return bytes(model.SerializeToString()) + b"\xba\x80\x80\x80\x10" + size + graph


def many_nodes() -> bytes:
    return b"\x3a\x80\x80\x80\x01" + b"\x0a\x00" * (1 << 20)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (endless, "loop"),
        (elsewhere, "another file"),
        (sparse, "sparse weights"),
        (functions, "functions"),
        (behind_a_group, "begins no field"),
        (with_a_long_key, "begins no field"),
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


@pytest.mark.parametrize("make", [behind_a_group, with_a_long_key])
def test_a_runtime_would_read_what_is_refused_for_how_it_is_written(
    make: Callable[[], bytes],
) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(make(), options, ["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["logits"]


def test_any_bytes_are_a_graph_or_refused() -> None:
    rng = np.random.default_rng(0)
    for size in (*range(64), 10_000):
        for data in (bytes(size), b"\xff" * size, *(rng.bytes(size) for _ in range(20))):
            with suppress(BundleError):
                check_graph(data)


def test_a_graph_that_was_cut_is_refused() -> None:
    with pytest.raises(BundleError, match="damaged, or no ONNX"):
        check_graph(bytes(model().SerializeToString())[:-1])
