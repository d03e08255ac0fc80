"""What a bundle says about itself: `manifest.json`, read strictly.

Every key is required and unknown keys are refused, so that a typing error or a newer writer is
one clear sentence at start and never a default that was not chosen. Only a key that came later may
be missing: it then has the meaning that everything had before.
"""

import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from reprlib import Repr
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from alexnet.spec import LATER, Preprocess

FORMAT = 1
MAX_MANIFEST_BYTES, MAX_FILES = 1 << 20, 64
_SHOWN = Repr()  # of a value in a message, whatever its size and depth
_SHOWN.maxstring = _SHOWN.maxother = 80


class BundleError(ValueError):
    """The bundle cannot be served; the message says why, in one sentence."""


MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""It ends up in URLs, metric labels and file names."""


def plain_name(name: str) -> str:
    """It can be a file's on any system, and leads nowhere else; else BundleError."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,99}", name):
        raise BundleError(f"{_SHOWN.repr(name)} is no name for a file in a bundle")
    return name


@dataclass(frozen=True)
class ModelName:
    name: str
    version: str
    classes: int
    known_classes: int
    """Classes of which the network has seen labelled photos."""
    description: str
    """One sentence for people: what this model knows, and what it does not."""

    def __post_init__(self) -> None:
        for value in (self.name, self.version):
            if not MODEL_NAME.fullmatch(value):
                raise BundleError(f"{_SHOWN.repr(value)} is no model name or version")


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

    def __post_init__(self) -> None:
        plain_name(self.file)


def accuracy_in_words(top1: float, top5: float, classes: int) -> str:
    """Five guesses among five `classes` or fewer are always right: then there is no top-5."""
    return f"top-1 {top1:.1%}" + (f", top-5 {top5:.1%}" if classes > 5 else "")


def minutes_in_words(minutes: float, of_run: float | None, runs: int) -> str:
    """Of so many `runs`, each from the weights of the one before; `of_run` is the last one's part,
    None where it is not known."""
    if of_run is None:
        return f"{minutes:g} minutes{' with the runs before' if runs > 1 else ''}"
    before = f" ({minutes:g} with the runs before)" if of_run != minutes else ""
    return f"{of_run:g} minutes{before}"


@dataclass(frozen=True)
class Accuracy:
    """Measured on this artifact, through the runtime it is meant for; fractions of 1."""

    top1: float
    top5: float
    photos: int
    data: str

    def in_words(self, classes: int) -> str:
        return accuracy_in_words(self.top1, self.top5, classes)


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

    def __post_init__(self) -> None:
        plain_name(self.file)


@dataclass(frozen=True)
class Provenance:
    recipe: str
    """Those of all runs that the weights went through, joined by `, then `."""
    commit: str
    checkpoint_sha256: str
    train_photos: int
    """Of the last run."""
    train_minutes: float
    """Of all runs."""
    created: str


@dataclass(frozen=True)
class Taught:
    """What the network learned from the answers of another, beside its labelled photos."""

    teacher: str
    photos: int
    """Photos of which it was told the teacher's answer; some may have labels, too."""
    classes: int
    """Classes that it knows from these answers only, not counted in `known_classes`."""


@dataclass(frozen=True)
class Calibration:
    """The temperature in the last layer, and what it made of the expected calibration error."""

    temperature: float
    error_before: float
    error: float
    photos: int
    """On so many it was fitted and measured."""


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
    taught: Taught | None = field(default=None, metadata=LATER)
    """Absent without a teacher, so that readers from before it was added can read the bundle."""
    calibration: Calibration | None = field(default=None, metadata=LATER)
    """Absent if the probabilities are not calibrated."""

    @property
    def learnt_classes(self) -> int:
        """Classes that the network knows, from labelled photos or from a teacher."""
        return self.model.known_classes + (self.taught.classes if self.taught else 0)

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
        data = {**asdict(self), "preprocess": self.preprocess.settings()}
        for name in ("taught", "calibration"):
            if data[name] is None:
                del data[name]
        return json.dumps(data, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        """Raises BundleError that names the key at fault."""
        if len(text) > MAX_MANIFEST_BYTES:
            raise BundleError(f"manifest.json has more than {MAX_MANIFEST_BYTES:,} bytes")
        try:
            data = json.loads(text if isinstance(text, str) else text.decode())
        except ValueError as error:
            raise BundleError(f"manifest.json is not JSON: {error}") from None
        except RecursionError:
            raise BundleError("manifest.json is not ours: it is too deeply nested") from None
        if not isinstance(data, dict) or not isinstance(data.get("format"), int):
            raise BundleError("manifest.json has no format number")
        if data["format"] != FORMAT:
            its = _SHOWN.repr(data["format"])
            raise BundleError(
                f"the bundle has format {its}, this server reads format {FORMAT}: "
                "export the model again, or update the server"
            )
        view = data.get("preprocess")
        if isinstance(view, dict) and (tile := view.pop("tile", None)) is not None:
            raise BundleError(
                f"manifest.json: manifest.preprocess.tile is {_SHOWN.repr(tile)}: networks trained "
                "on tiles cannot be served any more; export the model again from its weights with "
                "this version"
            )
        manifest: Manifest = _read(cls, data, "manifest")
        if not manifest.artifacts:
            raise BundleError("the bundle has no artifacts")
        if len(manifest.entries) >= MAX_FILES:
            raise BundleError(f"manifest.json names more than {MAX_FILES} files")
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
    raise BundleError(f"manifest.json: {where} cannot be {_SHOWN.repr(value)}")


def _fits(kind: type, value: Any) -> bool:
    if hasattr(kind, "__dataclass_fields__"):
        return isinstance(value, dict)
    if kind is float:
        with suppress(OverflowError):  # of a whole number that no float can hold
            return isinstance(value, int | float) and type(value) is not bool and isfinite(value)
        return False
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _read_object(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise BundleError(f"manifest.json: {where} cannot be {_SHOWN.repr(value)}")
    names = {f.name for f in fields(kind)}
    later = {f.name for f in fields(kind) if f.metadata == LATER}
    if missing := sorted(names - later - value.keys()):
        raise BundleError(f"manifest.json: {where} lacks {', '.join(missing)}")
    if unknown := sorted(value.keys() - names):
        raise BundleError(f"manifest.json: {where} has unknown keys: {', '.join(unknown)[:200]}")
    hints = get_type_hints(kind)
    try:
        given = names & value.keys()
        return kind(**{name: _read(hints[name], value[name], f"{where}.{name}") for name in given})
    except BundleError:
        raise
    except ValueError as error:
        raise BundleError(f"manifest.json: {where}: {error}") from None
