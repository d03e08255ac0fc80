"""An ONNX file's nodes and constants, read where they lie: weights are views, not copies.

The package `onnx` is no part of a server (server/engines/graph.py). The numbers of fields are those
of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.engines.graph import fields, varint

_TYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64}

Span = tuple[int, int]
"""Start and end of a field's bytes."""


@dataclass(frozen=True)
class Node:
    op: str
    name: str
    inputs: tuple[str, ...]
    output: str
    numbers: Mapping[str, tuple[int, ...]]
    """Attributes that are whole numbers: strides, pads, group."""


@dataclass(frozen=True)
class OnnxFile:
    nodes: tuple[Node, ...]
    constants: Mapping[str, NDArray[Any]]
    """Those that are stored as raw bytes, of a common type and of the size that they declare."""


def read_onnx(onnx: bytes) -> OnnxFile:
    """Of a file that `check_graph` has let pass."""
    nodes, constants = [], {}
    for first, last in _those(onnx, (0, len(onnx)), 7):
        for number, start, end in fields(onnx, first, last):
            if number == 1:
                nodes.append(_node(onnx, (start, end)))
            elif number == 5:
                name, constant = _constant(onnx, (start, end))
                if constant is not None:
                    constants[name] = constant
    return OnnxFile(tuple(nodes), constants)


def also_giving(names: Sequence[str]) -> bytes:
    """What, behind the bytes of a file, makes these tensors outputs of its graph, too: protobuf
    merges a message that comes twice."""
    outputs = b"".join(_field(12, _field(1, name.encode())) for name in names)
    return _field(7, outputs)


def _field(number: int, body: bytes) -> bytes:
    return _number(number << 3 | 2) + _number(len(body)) + body


def _number(value: int) -> bytes:
    more, low = divmod(value, 128)
    return bytes([low | 128]) + _number(more) if more else bytes([low])


def _those(onnx: bytes, span: Span, wanted: int) -> Iterator[Span]:
    return ((start, end) for number, start, end in fields(onnx, *span) if number == wanted)


def _texts(onnx: bytes, span: Span, wanted: int) -> tuple[str, ...]:
    return tuple(onnx[a:b].decode(errors="replace") for a, b in _those(onnx, span, wanted))


def _numbers(onnx: bytes, span: Span, wanted: int) -> tuple[int, ...]:
    """One to a field."""
    return tuple(varint(onnx, a, b)[0] for a, b in _those(onnx, span, wanted))


def _node(onnx: bytes, span: Span) -> Node:
    numbers = {}
    for attribute in _those(onnx, span, 5):
        for name in _texts(onnx, attribute, 1):
            numbers[name] = _numbers(onnx, attribute, 8) or _numbers(onnx, attribute, 3)
    op, name, output = ((*_texts(onnx, span, number), "")[0] for number in (4, 3, 2))
    return Node(op, name, _texts(onnx, span, 1), output, numbers)


def _constant(onnx: bytes, span: Span) -> tuple[str, NDArray[Any] | None]:
    (name,), raw = _texts(onnx, span, 8) or ("",), [*_those(onnx, span, 9)]
    kind = _TYPES.get(next(iter(_numbers(onnx, span, 2)), 0))
    if kind is None or not raw:
        return name, None
    (start, end), shape = raw[0], _numbers(onnx, span, 1)
    if math.prod(shape) * np.dtype(kind).itemsize != end - start:
        return name, None
    return name, np.frombuffer(onnx, np.uint8, end - start, start).view(kind).reshape(shape)
