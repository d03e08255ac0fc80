"""The Open Inference Protocol's tensors <-> photos and probabilities, the same for REST and gRPC.

Everything is checked before memory is taken for what a request claims to hold. Messages repeat only
the first letters of what the caller wrote.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.labels import Labels
from alexnet.postprocess import top_k
from server.errors import BadRequest

OUTPUT = "probabilities"

Parameters = Mapping[str, Any]
Image = bytes | NDArray[np.uint8]

_LENGTH = struct.Struct("<I")  # before each element of BYTES


@dataclass(frozen=True)
class Input:
    """A tensor as it came: raw, or element by element."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes | memoryview | None = None
    elements: Sequence[Any] = ()
    """bytes for BYTES; integers for UINT8, in lists that may be nested."""


@dataclass(frozen=True)
class Requested:
    """An output as it is asked for."""

    name: str
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class Output:
    name: str
    datatype: str
    shape: tuple[int, ...]
    elements: NDArray[np.float32] | list[bytes]
    cached: bool = False
    """Every photo's answer was kept from another of the same bytes."""

    def raw(self) -> bytes:
        if isinstance(self.elements, np.ndarray):
            return self.elements.astype("<f4", copy=False).tobytes()
        return b"".join(_LENGTH.pack(len(element)) + element for element in self.elements)


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives: photos or crops in, probabilities out."""

    model: str
    input: str
    datatype: str
    dims: tuple[int, ...]
    """Of one photo: (1,) for an encoded one, (crop, crop, 3) for pixels."""
    labels: Labels
    max_batch_size: int

    def images(self, inputs: Sequence[Input]) -> list[Image]:
        """One of bytes or of (crop, crop, 3) for each photo. Raises BadRequest."""
        if [tensor.name for tensor in inputs] != [self.input]:
            got = ", ".join(clipped(tensor.name) for tensor in inputs[:5]) or "none"
            raise BadRequest(
                f"model '{self.model}' takes exactly one input, '{self.input}'; got {got}"
            )
        tensor = inputs[0]
        if tensor.datatype != self.datatype:
            raise BadRequest(
                f"input '{self.input}' has the datatype {clipped(tensor.datatype)}; "
                f"model '{self.model}' takes {self.datatype}"
            )
        count = self._count(tensor.shape)
        if self.datatype == "BYTES":
            return list(self._photos(tensor, count))
        return list(self._crops(tensor, count))

    def described(self, body: bytes) -> Input:
        """The tensor of a body that is nothing else: one photo, or pixels one after the other."""
        if self.datatype == "BYTES":
            return Input(self.input, self.datatype, (1,), elements=[body])
        count = len(body) // prod(self.dims)
        return Input(self.input, self.datatype, (count, *self.dims), raw=body)

    def classes(self, requested: Sequence[Requested]) -> int:
        """How many classes to answer with; 0 asks for every probability. Raises BadRequest."""
        if not requested:
            return 0
        if [output.name for output in requested] != [OUTPUT]:
            got = ", ".join(clipped(output.name) for output in requested[:5])
            raise BadRequest(
                f"unexpected inference output: model '{self.model}' has one, '{OUTPUT}'; got {got}"
            )
        refuse_shared_memory(requested[0].parameters)
        most = len(self.labels)
        if "classification" not in requested[0].parameters:
            return 0
        return whole(requested[0].parameters, "classification", 1, most)

    def output(self, probabilities: NDArray[np.float32], classes: int) -> Output:
        """Of (photos, all classes); as "score:index:label" when so many classes are asked for."""
        if not classes:
            return Output(OUTPUT, "FP32", probabilities.shape, probabilities)
        rows = [top_k(row, classes) for row in probabilities]
        texts = [
            f"{r.probability:f}:{r.index}:{self.labels[r.index].name}".encode()
            for r in chain.from_iterable(rows)
        ]
        return Output(OUTPUT, "BYTES", (len(rows), classes), texts)

    def _count(self, shape: tuple[int, ...]) -> int:
        plain = self.dims == (1,) and len(shape) == 1  # [N] is as good as [N, 1]
        if not shape or (shape[1:] != self.dims and not plain):
            raise BadRequest(
                f"unexpected shape for input '{self.input}' of model '{self.model}': "
                f"it takes {[-1, *self.dims]}, not {list(shape[:8])}"
            )
        if not 1 <= shape[0] <= self.max_batch_size:
            limit = ">= 1" if shape[0] < 1 else f"<= {self.max_batch_size}"
            raise BadRequest(f"inference request batch-size must be {limit} for '{self.model}'")
        return shape[0]

    def _photos(self, tensor: Input, count: int) -> Iterator[bytes]:
        if tensor.raw is not None:
            yield from _framed(memoryview(tensor.raw), count, self.input)
            return
        self._check_size(len(tensor.elements), count, "elements")
        yield from tensor.elements

    def _crops(self, tensor: Input, count: int) -> Iterator[NDArray[np.uint8]]:
        data: Any = tensor.raw
        size = count * prod(self.dims)
        if data is None:
            try:
                data = flat(tensor.elements, len(tensor.shape))
                if len(data) <= size:  # more is refused, and not worth a copy
                    data = bytes(data)
            except (TypeError, ValueError):
                raise BadRequest(
                    f"input '{self.input}' holds something that is no number from 0 to 255"
                ) from None
        self._check_size(len(data), size, "bytes")
        yield from np.frombuffer(data, np.uint8).reshape(count, *self.dims)

    def _check_size(self, got: int, expected: int, of: str) -> None:
        if got != expected:
            raise BadRequest(
                f"input '{self.input}' has {got:,} {of}, its shape asks for {expected:,}"
            )


def clipped(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


def whole(parameters: Parameters, name: str, least: int, most: int) -> int:
    """A parameter that is a whole number. Raises BadRequest."""
    value = parameters[name]
    if type(value) is not int or not least <= value <= most:
        raise BadRequest(
            f"parameter '{name}' must be a whole number from {least} to {most}, "
            f"not {clipped(str(value))}"
        )
    return value


def refuse_shared_memory(parameters: Parameters) -> None:
    if any(name.startswith("shared_memory") for name in parameters):
        raise BadRequest("this server has no shared memory; send the tensor in the request")


def _framed(view: memoryview, count: int, name: str) -> Iterator[bytes]:
    """The elements of a raw BYTES tensor: each after its length, 4 bytes, little-endian."""
    at = 0
    for i in range(count):
        left = len(view) - at - _LENGTH.size
        if left < 0:
            raise BadRequest(f"input '{name}' ends before element {i} of {count}")
        (length,) = _LENGTH.unpack_from(view, at)
        if length > left:
            raise BadRequest(
                f"element {i} of input '{name}' claims {length:,} bytes, {left:,} are left"
            )
        at += _LENGTH.size
        yield bytes(view[at : at + length])
        at += length
    if at != len(view):
        raise BadRequest(f"input '{name}' has {len(view) - at:,} bytes after its last element")


def flat(elements: Sequence[Any], depth: int) -> Sequence[Any]:
    """Out of lists nested at most so deep; raises TypeError for what is no list among lists."""
    for _ in range(depth - 1):
        if not (elements and isinstance(elements[0], list)):
            break
        elements = list(chain.from_iterable(elements))
    return elements
