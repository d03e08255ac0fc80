"""The server's answers as dataclasses; protos/classifier.proto explains their fields."""

from dataclasses import dataclass, fields
from typing import Any, TypeVar

from alexnet_client import classifier_pb2 as pb


@dataclass(frozen=True)
class Prediction:
    index: int
    synset: str
    label: str
    probability: float


@dataclass(frozen=True)
class ModelVersion:
    name: str
    version: str
    build: str


@dataclass(frozen=True)
class Image:
    format: str
    width: int
    height: int
    mode: str
    orientation: int
    icc: str = ""
    frames: int = 1
    """Pictures in the file: 1, or 2 if there are more; 0 if it is not told."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Timing:
    decode_ms: float
    queue_ms: float
    infer_ms: float
    total_ms: float
    """The caller's own upload included."""
    batch_size: int
    upload_ms: float = 0.0
    decode_queue_ms: float = 0.0
    """With `batch_queue_ms` the two parts of `queue_ms`; 0, as the upload, from older servers."""
    batch_queue_ms: float = 0.0


@dataclass(frozen=True)
class Kind:
    synset: str
    label: str
    probability: float


@dataclass(frozen=True)
class Explanation:
    method: str
    index: int
    synset: str
    label: str
    rows: int
    grid: tuple[float, ...]
    largest_drop: float


@dataclass(frozen=True)
class Classification:
    predictions: tuple[Prediction, ...]
    """Most probable first."""
    model: ModelVersion
    image: Image
    timing: Timing
    request_id: str
    attempts: int = 1
    """Calls made, retries included."""
    kinds: tuple[Kind, ...] = ()
    explanation: Explanation | None = None
    cached: bool = False

    @property
    def top1(self) -> Prediction:
        return self.predictions[0]


@dataclass(frozen=True)
class Model:
    name: str
    version: str
    classes: int
    known_classes: int
    top1: float
    top5: float
    measured_on: str
    precision: str
    crop: int
    build: str
    versions: tuple[str, ...]


def classification(response: pb.ClassifyResponse, attempts: int) -> Classification:
    return Classification(
        predictions=tuple(_to_dataclass(Prediction, p) for p in response.predictions),
        model=_to_dataclass(ModelVersion, response.model),
        image=_to_dataclass(Image, response.image, warnings=tuple(response.image.warnings)),
        timing=_to_dataclass(Timing, response.timing),
        request_id=response.request_id,
        attempts=attempts,
        kinds=tuple(_to_dataclass(Kind, kind) for kind in response.kinds),
        explanation=_explanation(response),
        cached=response.cached,
    )


def _explanation(response: pb.ClassifyResponse) -> Explanation | None:
    if not response.HasField("explanation"):
        return None
    found = response.explanation
    return _to_dataclass(Explanation, found, grid=tuple(found.grid))


def model(message: pb.Model) -> Model:
    return _to_dataclass(Model, message, versions=tuple(message.versions))


T = TypeVar("T")


def _to_dataclass(kind: type[T], message: Any, **converted: Any) -> T:
    names: Any = fields(kind)  # type: ignore[arg-type]  # all of them are dataclasses
    return kind(**{field.name: getattr(message, field.name) for field in names} | converted)
