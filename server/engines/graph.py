"""An ONNX graph before a runtime gets it: what never ends, and what lies elsewhere, is refused.

The runtimes' own readers take both: a loop without an end holds the thread that opens versions for
ever, and weights "in another file" may be any file. Read here are only the fields that matter, from
protobuf's wire format (https://protobuf.dev/programming-guides/encoding/): the package `onnx` is no
part of a server, and weights are skipped, not copied.
"""

from collections.abc import Iterator

from alexnet.manifest import BundleError

MAX_FIELDS = 200_000
"""Looked at; an AlexNet has some hundreds."""

# The numbers of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_MODEL = {7: "graph", 25: "function"}
_GRAPH = {1: "node", 5: "tensor", 15: "sparse"}
_NODE = {5: "attribute"}
_ATTRIBUTE = {
    5: "tensor", 6: "subgraph", 10: "tensor", 11: "subgraph", 22: "sparse", 23: "sparse"
}  # fmt: skip
_TENSOR = {13: "elsewhere"}
_FIELDS = {
    "model": _MODEL,
    "graph": _GRAPH,
    "node": _NODE,
    "attribute": _ATTRIBUTE,
    "tensor": _TENSOR,
}
_REFUSED = {
    "subgraph": "it has a loop or a branch, which need not end",
    "function": "it has functions of its own",
    "elsewhere": "its weights lie in another file",
    "sparse": "it has sparse weights",
}


def check_graph(onnx: bytes) -> None:
    """Raises BundleError, also for what is no protobuf."""
    parts = [("model", 0, len(onnx))]
    looked = 0
    while parts:
        kind, start, end = parts.pop()
        for number, first, last in fields(onnx, start, end):
            looked += 1
            if looked > MAX_FIELDS:
                raise BundleError(f"the graph has more than {MAX_FIELDS:,} parts")
            part = _FIELDS[kind].get(number)
            if part in _REFUSED:
                raise BundleError(f"the graph is not run: {_REFUSED[part]}")
            if part:
                parts.append((part, first, last))


def fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Of a message: number, start and end of each field. Raises BundleError where the bytes are
    none, and for what the runtimes' readers skip or cut and then read on: groups, which ONNX has
    not, and keys of more than 32 bits."""
    while at < end:
        began = at
        key, at = varint(data, at, end)
        number, wire = key >> 3, key & 7
        if wire == 2:
            size, at = varint(data, at, end)
        elif wire == 0:
            size = varint(data, at, end)[1] - at
        else:
            size = {1: 8, 5: 4}.get(wire, end - at + 1)  # a group: refused below
        if at + size > end or key >> 32:
            raise BundleError(f"the graph is damaged, or no ONNX: byte {began} begins no field")
        yield number, at, at + size
        at += size


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The number, and where it ends; a cut or endless one ends behind the end."""
    value = 0
    for i in range(10):
        if at + i >= end:
            break
        value |= (data[at + i] & 127) << 7 * i
        if data[at + i] < 128:
            return value, at + i + 1
    return value, end + 1
