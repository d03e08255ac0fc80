"""What is said of a photo, a version or an error: written once, for JSON and for protobuf."""

from dataclasses import asdict
from typing import Any

import numpy as np

from alexnet import wordnet
from alexnet.labels import Label
from alexnet.postprocess import Ranked, top_k
from server.api.options import Asked
from server.errors import ServeError
from server.scheduler.job import Answer
from server.scheduler.pipeline import Pipeline
from server.telemetry.counts import STAGES
from server.thorough import Explanation, explanations

Fields = dict[str, Any]


def classification(answer: Answer, asked: Asked, request_id: str) -> Fields:
    """The fields of `alexnet.v1.ClassifyResponse`; `as_json` makes of them the reply of REST."""
    model, photo, timing = answer.version.model, answer.photo, answer.timing
    assert photo is not None  # pixels are answered by the Open Inference Protocol only
    predictions = [
        {**class_fields(answer, ranked.index), "probability": ranked.probability}
        for ranked in ranking(answer, asked)
        if ranked.probability >= asked.min_probability
    ]
    fields = {
        "predictions": predictions,
        "model": {"name": model.name, "version": answer.version.number, "build": model.build},
        "image": {
            "format": photo.format,
            "width": photo.width,
            "height": photo.height,
            "mode": photo.mode,
            "orientation": photo.orientation,
            "icc": photo.icc or "",
            "frames": photo.frames,
            "warnings": list(photo.warnings),
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
        "cached": timing.cached,
    }
    if asked.kinds:
        kinds = model.kinds.of(answer.probabilities)
        fields["kinds"] = [
            {"synset": k.synset, "label": k.name, "probability": k.probability} for k in kinds
        ]
    return fields


def ranking(answer: Answer, asked: Asked) -> list[Ranked]:
    """The most probable of all classes; or of some, as probable as if there were no others."""
    if asked.among is None:
        return top_k(answer.probabilities, asked.k)
    chosen = answer.probabilities[asked.among].astype(np.float64)
    chosen /= max(chosen.sum(), np.finfo(np.float64).tiny)
    few = top_k(chosen.astype(np.float32), asked.k)
    return [Ranked(int(asked.among[r.index]), r.probability) for r in few]


def class_fields(answer: Answer, index: int) -> Fields:
    label = answer.version.model.bundle.labels[index]
    return {"index": index, "synset": label.synset, "label": label.name}


def explanation(answer: Answer, explained: Explanation) -> Fields:
    """The fields of `alexnet.v1.Explanation`."""
    fields = {
        "method": explained.method,
        **class_fields(answer, explained.index),
        "rows": len(explained.shares),
        "grid": [float(share) for share in explained.shares.flat],
    }
    if explained.largest_drop is None:
        return fields
    return fields | {"largest_drop": explained.largest_drop}


def as_json(fields: Fields) -> Fields:
    """The same, with `timing_ms` in place of a unit behind every stage, and rounded; `cached` only
    where it is so."""
    timing = fields["timing"]
    for prediction in fields["predictions"]:
        prediction["probability"] = round(prediction["probability"], 6)
    told: Fields = {"predictions": fields["predictions"]}
    if "kinds" in fields:
        told["kinds"] = [{**k, "probability": round(k["probability"], 6)} for k in fields["kinds"]]
    if "explanation" in fields:
        told["explanation"] = _explanation_json(fields["explanation"])
    return {
        **told,
        "model": fields["model"],
        "image": fields["image"],
        "timing_ms": {
            name[:-3]: round(ms, 3) for name, ms in timing.items() if name != "batch_size"
        },
        "batch_size": timing["batch_size"],
        "request_id": fields["request_id"],
        **({"cached": True} if fields["cached"] else {}),
    }


def _explanation_json(fields: Fields) -> Fields:
    """The same, with the grid as rows."""
    rows, values = fields.pop("rows"), [round(value, 4) for value in fields["grid"]]
    columns = len(values) // rows
    grid = [values[i : i + columns] for i in range(0, len(values), columns)]
    if "largest_drop" in fields:
        fields["largest_drop"] = round(fields["largest_drop"], 6)
    return fields | {"grid": grid}


def server_timing(fields: Fields) -> str:
    """W3C Server-Timing: browsers draw it in their network panel."""
    timing = fields["timing"]
    stages = [f"{stage};dur={timing[f'{stage}_ms']:.2f}" for stage in STAGES]
    return ", ".join([*stages, "cache;desc=hit"] if fields["cached"] else stages)


def failure(error: ServeError, request_id: str) -> Fields:
    """The JSON of an error."""
    body: Fields = {"code": error.reason, "message": str(error)}
    if error.retry_after_s is not None:
        body["retry_after_ms"] = round(error.retry_after_s * 1000)
    return {"error": body, "request_id": request_id}


def described_class(index: int, label: Label) -> Fields:
    """The path leads from `entity` to the class; it is empty outside of WordNet."""
    path = [{"synset": node.synset, "name": node.name} for node in wordnet.path(label.synset)]
    names = [name.strip() for name in label.names.split(",")]
    return {"index": index, "synset": label.synset, "names": names, "path": path}


def version(pipeline: Pipeline) -> Fields:
    """What is said of a version that is served."""
    model = pipeline.model
    manifest, accuracy = model.bundle.manifest, model.artifact.accuracy
    return {
        "name": model.name,
        "version": pipeline.number,
        "build": manifest.model.version,
        "description": manifest.model.description,
        "classes": manifest.model.classes,
        "known_classes": manifest.model.known_classes,
        "precision": model.precision,
        "engine": model.engine.name,
        "crop": manifest.preprocess.crop,
        "explanations": explanations(model),
        "accuracy": accuracy and asdict(accuracy),
    }
