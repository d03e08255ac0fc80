"""What is said of a photo, a version or an error: written once, for JSON and for protobuf."""

from typing import Any

from alexnet.postprocess import top_k
from server.errors import ServeError
from server.scheduler.job import Answer
from server.scheduler.pipeline import Pipeline
from server.telemetry.counts import STAGES

Fields = dict[str, Any]


def classification(answer: Answer, k: int, request_id: str) -> Fields:
    """The fields of `alexnet.v1.ClassifyResponse`; `as_json` makes of them the reply of REST."""
    model, photo, timing = answer.version.model, answer.photo, answer.timing
    assert photo is not None  # pixels are answered by the Open Inference Protocol only
    labels = model.bundle.labels.rows
    predictions = []
    for ranked in top_k(answer.probabilities, k):
        label = labels[ranked.index]
        predictions.append(
            {
                "index": ranked.index,
                "synset": label.synset,
                "label": label.name,
                "probability": ranked.probability,
            }
        )
    return {
        "predictions": predictions,
        "model": {"name": model.name, "version": answer.version.number, "build": model.build},
        "image": {
            "format": photo.format,
            "width": photo.width,
            "height": photo.height,
            "mode": photo.mode,
            "orientation": photo.orientation,
        },
        "timing": {
            "upload_ms": timing.upload * 1000,
            "decode_queue_ms": timing.decode_queue * 1000,
            "decode_ms": timing.decode * 1000,
            "batch_queue_ms": timing.batch_queue * 1000,
            "queue_ms": (timing.decode_queue + timing.batch_queue) * 1000,
            "infer_ms": timing.infer * 1000,
            "total_ms": timing.total * 1000,
            "batch_size": timing.batch_size,
        },
        "request_id": request_id,
    }


def as_json(fields: Fields) -> Fields:
    """The same, with `timing_ms` in place of a unit behind every stage, and rounded."""
    timing = fields["timing"]
    for prediction in fields["predictions"]:
        prediction["probability"] = round(prediction["probability"], 6)
    return {
        "predictions": fields["predictions"],
        "model": fields["model"],
        "image": fields["image"],
        "timing_ms": {
            name[:-3]: round(ms, 3) for name, ms in timing.items() if name != "batch_size"
        },
        "batch_size": timing["batch_size"],
        "request_id": fields["request_id"],
    }


def server_timing(fields: Fields) -> str:
    """W3C Server-Timing: browsers draw it in their network panel."""
    timing = fields["timing"]
    return ", ".join([f"{stage};dur={timing[f'{stage}_ms']:.2f}" for stage in STAGES])


def failure(error: ServeError, request_id: str) -> Fields:
    """The JSON of an error."""
    body: Fields = {"code": error.reason, "message": str(error)}
    if error.retry_after_s is not None:
        body["retry_after_ms"] = round(error.retry_after_s * 1000)
    return {"error": body, "request_id": request_id}


def version(pipeline: Pipeline) -> Fields:
    """What is said of a version that is served."""
    model = pipeline.model
    manifest, accuracy = model.bundle.manifest, model.artifact.accuracy
    return {
        "name": manifest.model.name,
        "version": pipeline.number,
        "build": manifest.model.version,
        "description": manifest.model.description,
        "classes": manifest.model.classes,
        "known_classes": manifest.model.known_classes,
        "precision": model.precision,
        "engine": model.engine.name,
        "crop": manifest.preprocess.crop,
        "accuracy": accuracy
        and {
            "top1": accuracy.top1,
            "top5": accuracy.top5,
            "photos": accuracy.photos,
            "data": accuracy.data,
        },
    }
