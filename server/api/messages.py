"""The JSON of the REST face, and the HTTP status of each error."""

from typing import Any

from server.errors import ServeError
from server.models.version import Served
from server.service import Classification

STATUS = {
    "invalid_argument": 400,
    "invalid_image": 400,
    "disabled": 403,
    "not_found": 404,
    "too_large": 413,
    "unsupported_format": 415,
    "overloaded": 429,
    "internal": 500,
    "engine": 500,
    "not_ready": 503,
    "expired": 504,
    "would_miss_deadline": 504,
}


def status_of(error: ServeError) -> int:
    return STATUS[error.reason]


def failure(error: ServeError, request_id: str) -> dict[str, Any]:
    body: dict[str, Any] = {"code": error.reason, "message": str(error)}
    if error.retry_after_s is not None:
        body["retry_after_ms"] = round(error.retry_after_s * 1000)
    return {"error": body, "request_id": request_id}


def classification(result: Classification, request_id: str) -> dict[str, Any]:
    photo, timing, served = result.photo, result.timing, result.served
    labels = served.model.bundle.labels
    return {
        "predictions": [
            {
                "index": p.index,
                "synset": labels[p.index].synset,
                "label": labels[p.index].name,
                "probability": round(p.probability, 6),
            }
            for p in result.predictions
        ],
        "model": {
            "name": served.model.name,
            "version": served.version,
            "build": served.model.version,
        },
        "image": {
            "format": photo.format,
            "width": photo.width,
            "height": photo.height,
            "mode": photo.mode,
            "orientation": photo.orientation,
        },
        "timing_ms": {
            "decode": _ms(timing.decode),
            "queue": _ms(timing.queue),
            "infer": _ms(timing.infer),
            "total": _ms(timing.total),
        },
        "batch_size": timing.batch_size,
        "request_id": request_id,
    }


def model(served: Served) -> dict[str, Any]:
    manifest, artifact = served.model.bundle.manifest, served.model.artifact
    accuracy = artifact.accuracy
    return {
        "name": manifest.model.name,
        "version": served.version,
        "build": manifest.model.version,
        "description": manifest.model.description,
        "classes": manifest.model.classes,
        "known_classes": manifest.model.known_classes,
        "precision": served.model.precision,
        "engine": served.model.engine.name,
        "crop": manifest.preprocess.crop,
        "accuracy": accuracy
        and {
            "top1": accuracy.top1,
            "top5": accuracy.top5,
            "photos": accuracy.photos,
            "data": accuracy.data,
        },
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
