"""What a bundle says about itself: `manifest.json`, read strictly.

Every key is required and unknown keys are refused, so that a typing error or a newer writer is
one clear sentence at start and never a default that nobody chose.
"""

import json
import re
from dataclasses import asdict, dataclass, fields
from math import isfinite
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from alexnet.spec import Preprocess

FORMAT = 1


class BundleError(ValueError):
    """The bundle cannot be served; the message says why, in one sentence."""


@dataclass(frozen=True)
class ModelName:
    name: str
    version: str
    classes: int
    known_classes: int
    """Classes that the network has seen photos of."""
    description: str
    """One sentence for people: what this model knows, and what it does not."""

    def __post_init__(self) -> None:
        # Both end up in URLs, metric labels and file names.
        for value in (self.name, self.version):
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
                raise BundleError(f"{value!r} is no model name or version")


@dataclass(frozen=True)
class Tensor:
    name: str
    dtype: str
    shape: tuple[int | str, ...]
    """The batch dimension is the string `batch`."""


@dataclass(frozen=True)
class File:
    file: str
    sha256: str


@dataclass(frozen=True)
class Accuracy:
    """Measured on this artifact, through the runtime it is meant for; fractions of 1."""

    top1: float
    top5: float
    photos: int
    data: str


@dataclass(frozen=True)
class Artifact:
    file: str
    sha256: str
    runtime: str
    precision: str
    requires: dict[str, str]
    """What the machine must have, by the runtime's own names; empty means any CPU."""
    tolerance: float
    """How far any probability of the golden batch may be from the trained network's."""
    agreement: float
    """Fraction of the parity photos on which its first class is the trained network's."""
    accuracy: Accuracy | None


@dataclass(frozen=True)
class Provenance:
    recipe: str
    commit: str
    checkpoint_sha256: str
    train_photos: int
    train_minutes: float
    created: str


@dataclass(frozen=True)
class Manifest:
    format: int
    model: ModelName
    preprocess: Preprocess
    input: Tensor
    output: Tensor
    artifacts: tuple[Artifact, ...]
    labels: File
    golden: File
    card: File
    """The model card, in Markdown, for people."""
    provenance: Provenance

    @property
    def entries(self) -> list[File | Artifact]:
        """Everything that stands in a file of its own, with that file's hash."""
        return [self.labels, self.golden, self.card, *self.artifacts]

    def source(self, precision: str) -> Artifact | None:
        """What a GPU's graph in `precision` is made from: 8 bits need the scales of int8, the rest
        takes the finer weights."""
        artifacts = {a.precision: a for a in self.artifacts if a.runtime == "onnxruntime"}
        finer = None if precision in ("int8", "fp8") else artifacts.get("fp32")
        return finer or artifacts.get("int8")

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Raises BundleError that names the key at fault."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise BundleError(f"manifest.json is not JSON: {error}") from None
        if not isinstance(data, dict) or not isinstance(data.get("format"), int):
            raise BundleError("manifest.json has no format number")
        if data["format"] != FORMAT:
            raise BundleError(
                f"the bundle has format {data['format']}, this server reads format {FORMAT}: "
                "export the model again, or update the server"
            )
        manifest: Manifest = _read(cls, data, "manifest")
        if not manifest.artifacts:
            raise BundleError("the bundle has no artifacts")
        return manifest


def _read(kind: Any, value: Any, where: str) -> Any:
    """`value` as a `kind`: dataclasses from objects, tuples from lists, plain types as they are."""
    if hasattr(kind, "__dataclass_fields__"):
        return _read_object(kind, value, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple and isinstance(value, list):
        return tuple(_read(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {str(k): _read(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    if origin is UnionType:
        for option in arguments:
            if option is type(None) and value is None:
                return None
            if option is not type(None) and (not isinstance(option, type) or _fits(option, value)):
                return _read(option, value, where)
    elif isinstance(kind, type) and _fits(kind, value):
        return float(value) if kind is float else value
    elif origin is not None and value in arguments:  # a Literal
        return value
    raise BundleError(f"manifest.json: {where} cannot be {value!r}")


def _fits(kind: type, value: Any) -> bool:
    if hasattr(kind, "__dataclass_fields__"):
        return isinstance(value, dict)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _read_object(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise BundleError(f"manifest.json: {where} cannot be {value!r}")
    names = {f.name for f in fields(kind)}
    if missing := sorted(names - value.keys()):
        raise BundleError(f"manifest.json: {where} lacks {', '.join(missing)}")
    if unknown := sorted(value.keys() - names):
        raise BundleError(f"manifest.json: {where} has unknown keys: {', '.join(unknown)}")
    hints = get_type_hints(kind)
    try:
        return kind(**{name: _read(hints[name], value[name], f"{where}.{name}") for name in names})
    except BundleError:
        raise
    except ValueError as error:
        raise BundleError(f"manifest.json: {where}: {error}") from None
