"""JSON Schemas of the messages here, with what the .proto files say of them, and of other JSON.

A shape is a schema in short: a type, a list of one shape, a dict in which `name?` may be absent, a
tuple for any of its shapes, a set for one of its words, a message or a field of one, or a name.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

Json = dict[str, Any]

_TYPES: dict[Any, Json] = {
    str: {"type": "string"}, bytes: {"type": "string", "format": "binary"},
    bool: {"type": "boolean"}, int: {"type": "integer"}, float: {"type": "number"},
    None: {"type": "null"}, list: {"type": "array", "items": {}}, dict: {"type": "object"},
}  # fmt: skip
# By FieldDescriptor.cpp_type.
_FIELDS = {1: int, 2: int, 3: int, 4: int, 5: float, 6: float, 7: bool, 9: str}
_COMMENTED = r"^( *)message (\w+)|((?:^ *//.*\n)+)( *)(?:optional |repeated )?\w+ (\w+) = \d+;"


class Schemas(dict[str, Json]):
    """Those that have a name and were referred to: components of OpenAPI."""

    def __init__(self, named: Mapping[str, Any]):
        """`named`: name -> shape. Messages need none."""
        self._named = named

    def of(self, shape: Any) -> Json:
        shape = getattr(shape, "DESCRIPTOR", shape)  # of a message's class
        match shape:
            case str():
                return self._reference(shape, self._named[shape])
            case Descriptor():
                return self._reference(shape.name, dict(shape.fields_by_name))
            case FieldDescriptor():
                said = comments().get(".".join(shape.full_name.split(".")[-2:]))
                return self.of(_field(shape)) | ({"description": said} if said else {})
            case set():
                return {"enum": sorted(shape)}
            case tuple():
                return {"anyOf": [self.of(one) for one in shape]}
            case list():
                return {"type": "array", "items": self.of(shape[0])}
            case dict():
                parts = {name.rstrip("?"): self.of(part) for name, part in shape.items()}
                needed = [name for name in shape if not name.endswith("?")]
                return {"type": "object", "properties": parts, "required": needed}
        return _TYPES[shape]

    def content(self, shapes: Mapping[str, Any]) -> Json:
        """Of OpenAPI, by content type."""
        return {"content": {kind: {"schema": self.of(shape)} for kind, shape in shapes.items()}}

    def _reference(self, name: str, shape: Any) -> Json:
        if name not in self:
            self[name] = self.of(shape)
        return {"$ref": f"#/components/schemas/{name}"}


def fields(message: type[Message]) -> Json:
    """Its shape as a dict: JSON has all of them."""
    return dict(message.DESCRIPTOR.fields_by_name)


def _field(field: FieldDescriptor) -> Any:
    shape: Any = field.message_type or _FIELDS.get(field.cpp_type)
    if field.enum_type:
        shape = {value.name for value in field.enum_type.values}
    return [shape] if field.is_repeated else shape


@cache
def comments() -> dict[str, str]:
    """`Message.field` -> what its .proto file says of it."""
    found, messages = {}, {}  # the latter by the margin of their fields
    for file in ("classifier.proto", "oip.proto"):
        text = resources.files("protos").joinpath(file).read_text()
        for outer, opened, comment, inner, field in re.findall(_COMMENTED, text, re.MULTILINE):
            if opened:
                messages[f"{outer}  "] = opened
            else:
                found[f"{messages[inner]}.{field}"] = re.sub(r"\s*// ?", " ", comment).strip()
    return found
