"""Bodies of the Open Inference Protocol over HTTP: JSON, and binary tensors after it."""

import gc
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from alexnet.strangers import name_of
from server.api import base64
from server.api.oip.tensors import (
    Input,
    Output,
    Parameters,
    Requested,
    clipped,
    flat,
    refuse_shared_memory,
    whole,
)
from server.errors import BadRequest

# While JSON is parsed, nothing else runs, and it takes many times the memory of its text. So many
# values, those of three crops, take 10 to 30 ms: whole numbers, in lists of pixels or in one.
MAX_OBJECTS, MAX_NAMES, MAX_LISTS, MAX_VALUES = 1_000, 10_000, 160_000, 500_000
# Of numbers that are no pixels, of strings, and of what is escaped in them, as some write base64.
MAX_FRACTIONS, MAX_STRINGS, MAX_ESCAPES = 10_000, 20_000, 500_000
_BOUNDS = (
    (b",", MAX_VALUES, "values; send binary tensors"),
    (b"[", MAX_LISTS, "lists; send binary tensors"),
    (b"{", MAX_OBJECTS, "objects"),
    (b":", MAX_NAMES, "names"),
    (b'"', 2 * MAX_STRINGS, "strings"),
    (b".", MAX_FRACTIONS, "fractions: pixels are whole numbers"),
    (b"\\", MAX_ESCAPES, "escapes"),
)
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class InferRequest:
    id: str | None
    parameters: Parameters
    inputs: list[Input]
    outputs: list[Requested]

    @property
    def binary(self) -> bool:
        """Whether the output is to be raw, after the JSON."""
        default = self.parameters.get("binary_data_output", False)
        return any(o.parameters.get("binary_data", default) for o in self.outputs or [_ANY]) is True


_ANY = Requested("")
CACHED = {"cached": True}


def read(body: bytes, header_length: int | None) -> InferRequest:
    """Of the body, the first `header_length` bytes are JSON; all when None. Raises BadRequest."""
    rest = memoryview(b"")
    if header_length is not None:
        if header_length > len(body):
            raise BadRequest(
                f"Inference-Header-Content-Length is {header_length}; the body has "
                f"{len(body)} bytes"
            )
        body, rest = body[:header_length], memoryview(body)[header_length:]
    data = parse(body)
    inputs = []
    for i, tensor in enumerate(_list(data, "inputs")):
        parameters = _parameters(tensor, f"inputs[{i}]")
        raw = None
        if "binary_data_size" in parameters:
            size = whole(parameters, "binary_data_size", 0, len(rest))
            raw, rest = rest[:size], rest[size:]
        inputs.append(_input(tensor, f"inputs[{i}]", parameters, raw))
    if rest:
        raise BadRequest(f"{len(rest):,} bytes follow the last binary tensor")
    outputs = [
        Requested(_get(output, "name", str, f"outputs[{i}]"), _parameters(output, f"outputs[{i}]"))
        for i, output in enumerate(_list(data, "outputs"))
    ]
    request_id = _get(data, "id", str, "the request", None)
    return InferRequest(request_id, _parameters(data, "the request"), inputs, outputs)


def raw(tensor: Input) -> InferRequest:
    """Of a body that is nothing but the tensor: asked so, Triton answers in binary."""
    return InferRequest(None, {"binary_data_output": True}, [tensor], [])


def write(
    model: str, version: str, request: InferRequest, output: Output
) -> tuple[bytes, int | None]:
    """The body, and how much of it is JSON; None when all is."""
    tensor: dict[str, Any] = {"name": output.name, "datatype": output.datatype}
    tensor["shape"] = output.shape
    raw = output.raw() if request.binary else None
    if raw is not None:
        tensor["parameters"] = {"binary_data_size": len(raw)}
    elif isinstance(output.elements, np.ndarray):
        tensor["data"] = output.elements.ravel().tolist()
    else:
        tensor["data"] = [element.decode() for element in output.elements]
    answer: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": [tensor]}
    if request.id is not None:
        answer["id"] = request.id
    if output.cached:
        answer["parameters"] = CACHED
    header = json.dumps(answer).encode()
    return (header, None) if raw is None else (header + raw, len(header))


def parse(body: bytes) -> dict[str, Any]:
    """Raises BadRequest for what is no JSON object, or too large a one."""
    for sign, most, what in _BOUNDS:
        if body.count(sign) > most:
            raise BadRequest(f"the JSON has over {most:,} {what}")
    collects = gc.isenabled()
    gc.disable()  # it would look again and again at lists that are all needed: three times as long
    try:
        data = orjson.loads(body.removeprefix(_BOM))
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the request is not JSON: {error}") from None
    finally:
        if collects:
            gc.enable()
    if not isinstance(data, dict):
        raise BadRequest("the request is not a JSON object")
    return data


def _input(tensor: Any, where: str, parameters: Parameters, raw: memoryview | None) -> Input:
    refuse_shared_memory(parameters)
    name = _get(tensor, "name", str, where)
    datatype = _get(tensor, "datatype", str, where)
    shape = _get(tensor, "shape", list, where)
    if not all(type(size) is int for size in shape):
        raise BadRequest(f"{where}: shape must be a list of whole numbers")
    elements: Sequence[Any] = ()
    if raw is None:
        elements = _get(tensor, "data", list, where)
        if datatype == "BYTES":
            elements = _bytes(elements, where, parameters.get("content_type") == "base64")
    return Input(name, datatype, tuple(shape), raw, elements)


def _bytes(data: Sequence[Any], where: str, announced: bool) -> list[bytes]:
    """JSON strings are UTF-8, as in Triton; photos come as base64, announced as in MLServer."""
    try:
        texts = flat(data, 2)
        if announced:
            return [base64.decoded(text) for text in texts]
        elements = [text.encode() for text in texts]
    except (TypeError, AttributeError):
        raise BadRequest(f"{where}: every element of BYTES must be a string") from None
    except ValueError as error:
        raise BadRequest(f"{where}: data that is announced as base64 is none: {error}") from None
    for element in elements:
        if "to be decoded" in name_of(element):
            raise BadRequest(
                f'{where}: its data looks like base64, which "parameters": '
                '{"content_type": "base64"} must announce'
            )
    return elements


_REQUIRED: Any = object()
_NAMES = ((str, "a string"), (list, "a list"), (dict, "an object"))


def _get(data: Any, key: str, kind: type, where: str, default: Any = _REQUIRED) -> Any:
    if not isinstance(data, dict):
        raise BadRequest(f"{where} must be a JSON object")
    value = data.get(key)
    if value is None:  # JSON writers have null for what is absent
        value = default
    if value is _REQUIRED:
        raise BadRequest(f"{where} has no {key}")
    if value is not default and not isinstance(value, kind):
        name = next(name for known, name in _NAMES if known is kind)
        raise BadRequest(f"{where}: {key} must be {name}, not {clipped(str(value)[:50])}")
    return value


def _parameters(data: Any, where: str) -> dict[str, Any]:
    given: dict[str, Any] = _get(data, "parameters", dict, where, {})
    return {name: value for name, value in given.items() if value is not None}


def _list(data: dict[str, Any], key: str) -> list[Any]:
    values: list[Any] = _get(data, key, list, "the request", [])
    return values
