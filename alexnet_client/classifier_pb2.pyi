from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClassifyRequest(_message.Message):
    __slots__ = ("image", "top_k", "request_id", "priority", "version", "timeout_ms", "min_probability", "labels", "kinds", "views", "explain")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    MIN_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    top_k: int
    request_id: str
    priority: int
    version: str
    timeout_ms: int
    min_probability: float
    labels: _containers.RepeatedScalarFieldContainer[str]
    kinds: bool
    views: int
    explain: str
    def __init__(self, image: _Optional[bytes] = ..., top_k: _Optional[int] = ..., request_id: _Optional[str] = ..., priority: _Optional[int] = ..., version: _Optional[str] = ..., timeout_ms: _Optional[int] = ..., min_probability: _Optional[float] = ..., labels: _Optional[_Iterable[str]] = ..., kinds: bool = ..., views: _Optional[int] = ..., explain: _Optional[str] = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("predictions", "model", "image", "timing", "request_id", "kinds", "explanation", "cached")
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    predictions: _containers.RepeatedCompositeFieldContainer[Prediction]
    model: ModelVersion
    image: Image
    timing: Timing
    request_id: str
    kinds: _containers.RepeatedCompositeFieldContainer[Kind]
    explanation: Explanation
    cached: bool
    def __init__(self, predictions: _Optional[_Iterable[_Union[Prediction, _Mapping]]] = ..., model: _Optional[_Union[ModelVersion, _Mapping]] = ..., image: _Optional[_Union[Image, _Mapping]] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., request_id: _Optional[str] = ..., kinds: _Optional[_Iterable[_Union[Kind, _Mapping]]] = ..., explanation: _Optional[_Union[Explanation, _Mapping]] = ..., cached: bool = ...) -> None: ...

class Kind(_message.Message):
    __slots__ = ("synset", "label", "probability")
    SYNSET_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    synset: str
    label: str
    probability: float
    def __init__(self, synset: _Optional[str] = ..., label: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("method", "index", "synset", "label", "rows", "grid", "largest_drop")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SYNSET_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    GRID_FIELD_NUMBER: _ClassVar[int]
    LARGEST_DROP_FIELD_NUMBER: _ClassVar[int]
    method: str
    index: int
    synset: str
    label: str
    rows: int
    grid: _containers.RepeatedScalarFieldContainer[float]
    largest_drop: float
    def __init__(self, method: _Optional[str] = ..., index: _Optional[int] = ..., synset: _Optional[str] = ..., label: _Optional[str] = ..., rows: _Optional[int] = ..., grid: _Optional[_Iterable[float]] = ..., largest_drop: _Optional[float] = ...) -> None: ...

class ClassifyStreamResponse(_message.Message):
    __slots__ = ("request_id", "response", "failure")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    response: ClassifyResponse
    failure: Failure
    def __init__(self, request_id: _Optional[str] = ..., response: _Optional[_Union[ClassifyResponse, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("code", "reason", "message", "retry_after_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: str
    message: str
    retry_after_ms: int
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("index", "synset", "label", "probability")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SYNSET_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    index: int
    synset: str
    label: str
    probability: float
    def __init__(self, index: _Optional[int] = ..., synset: _Optional[str] = ..., label: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...

class ModelVersion(_message.Message):
    __slots__ = ("name", "version", "build")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BUILD_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    build: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., build: _Optional[str] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("format", "width", "height", "mode", "orientation", "icc", "frames", "warnings")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    ORIENTATION_FIELD_NUMBER: _ClassVar[int]
    ICC_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    format: str
    width: int
    height: int
    mode: str
    orientation: int
    icc: str
    frames: int
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, format: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., mode: _Optional[str] = ..., orientation: _Optional[int] = ..., icc: _Optional[str] = ..., frames: _Optional[int] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("decode_ms", "queue_ms", "infer_ms", "total_ms", "batch_size", "upload_ms", "decode_queue_ms", "batch_queue_ms")
    DECODE_MS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    INFER_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_MS_FIELD_NUMBER: _ClassVar[int]
    DECODE_QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    BATCH_QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    decode_ms: float
    queue_ms: float
    infer_ms: float
    total_ms: float
    batch_size: int
    upload_ms: float
    decode_queue_ms: float
    batch_queue_ms: float
    def __init__(self, decode_ms: _Optional[float] = ..., queue_ms: _Optional[float] = ..., infer_ms: _Optional[float] = ..., total_ms: _Optional[float] = ..., batch_size: _Optional[int] = ..., upload_ms: _Optional[float] = ..., decode_queue_ms: _Optional[float] = ..., batch_queue_ms: _Optional[float] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: str
    def __init__(self, version: _Optional[str] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "classes", "known_classes", "top1", "top5", "measured_on", "precision", "crop", "build", "versions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    KNOWN_CLASSES_FIELD_NUMBER: _ClassVar[int]
    TOP1_FIELD_NUMBER: _ClassVar[int]
    TOP5_FIELD_NUMBER: _ClassVar[int]
    MEASURED_ON_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    CROP_FIELD_NUMBER: _ClassVar[int]
    BUILD_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
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
    versions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., classes: _Optional[int] = ..., known_classes: _Optional[int] = ..., top1: _Optional[float] = ..., top5: _Optional[float] = ..., measured_on: _Optional[str] = ..., precision: _Optional[str] = ..., crop: _Optional[int] = ..., build: _Optional[str] = ..., versions: _Optional[_Iterable[str]] = ...) -> None: ...
