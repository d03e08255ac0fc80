"""What `alexnet-export` does, and how it ends."""

import argparse
import logging
import platform
import sys
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from alexnet.manifest import Accuracy
from export.pack import VerifiedArtifact, golden_batch, pack
from export.parity import ParityError, compare, predictor, speeds
from export.precision import calibrate, to_int8
from export.temperature import calibrate_probabilities
from export.to_onnx import to_onnx
from training.checks import sentence
from training.data import Dataset, load, load_unlabelled
from training.evaluate import infer_all, score
from training.fold import fold
from training.importers import TrainedModel, load_model
from training.network import ARCHITECTURES
from training.photos import Photos
from training.sources import resolve

NAMED = 12  # classes that the description lists by name
log = logging.getLogger(__name__)


def run_or_exit(arguments: argparse.Namespace) -> None:
    try:
        export(arguments)
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        log.debug("", exc_info=True)
        sys.exit(f"alexnet-export: {sentence(error, batch=False)}")
    except KeyboardInterrupt:
        sys.exit("\nstopped; nothing was written")


def export(arguments: argparse.Namespace) -> None:
    precisions = [p.strip() for p in (arguments.precision or "int8,fp32").split(",")]
    if unknown := set(precisions) - {"int8", "fp32"}:
        raise ValueError(f"unknown precision {', '.join(unknown)}; there are int8 and fp32")
    if arguments.output.exists() and not arguments.output.name.endswith(".tar.xz"):
        raise ValueError(f"{arguments.output} exists; a bundle is never changed in place")
    val_photos = _val_photos(arguments)
    model = load_model(
        arguments.weights, arguments.class_order, names=arguments.classes, mean=arguments.mean
    )
    crop = arguments.crop or model.crop
    if crop != model.crop and model.image is not None:
        raise ValueError(f"--crop: the mean image of these weights is for {model.crop} px")
    model = replace(model, crop=crop)
    if crop != ARCHITECTURES[model.network.arch].crop:
        model = replace(model, network=fold(model.network, crop))
    spec = model.preprocess
    remarks = arguments.remarks.read_text(encoding="utf-8") if arguments.remarks else ""
    photos = load_unlabelled(arguments.photos, spec, arguments.calibration_photos)
    val = load(val_photos, spec, model.labels) if val_photos else None
    measured = photos if val is None else val.images
    reference = infer_all(model.predict, measured)
    fitted = calibrate_probabilities(model, reference, val.targets) if val else None
    if fitted:
        log.info(
            "calibrated with temperature %.2f: expected calibration error %.1f %%, before %.1f %%",
            fitted.temperature, 100 * fitted.error, 100 * fitted.error_before,
        )  # fmt: skip
        reference = infer_all(model.predict, measured)
    golden = golden_batch(measured, reference)
    onnx = {"fp32": to_onnx(model, spec.crop)}
    if "int8" in precisions:
        log.info("calibrating int8 on %d photos", len(photos))
        onnx["int8"] = to_int8(model, spec.crop, calibrate(model, photos))
    verified, lessons = [], model.taught
    for precision in precisions:
        outputs = infer_all(predictor(onnx[precision]), measured)
        try:
            parity = compare(precision, reference, outputs)
        except ParityError as error:
            # Asked for by name, or no other left: it is an error, else the bundle does without.
            if arguments.precision or precision == "fp32":
                raise
            log.warning("%s. The bundle gets fp32 only", error)
            del onnx[precision]
            continue
        log.info("%s: %s", precision, parity)
        accuracy = _accuracy(outputs, val, val_photos) if val and val_photos else None
        if accuracy:
            log.info(
                "%s: %s",
                precision,
                accuracy.in_words(model.known + (lessons.classes if lessons else 0)),
            )
        difference = golden.difference(outputs[: len(golden.crops)])
        verified.append(VerifiedArtifact(precision, onnx[precision], parity, difference, accuracy))
    _report_speed(onnx, measured)
    version = arguments.version or f"{datetime.now(UTC):%Y%m%d}-{model.sha256[:7]}"
    description = arguments.description or _description(model)
    bundle = pack(
        model, verified, golden, spec,
        name=arguments.name, version=version, description=description, remarks=remarks,
        calibration=fitted or model.calibration,
    )  # fmt: skip
    log.info("packing %s", arguments.output)
    bundle.write(arguments.output)


def _val_photos(arguments: argparse.Namespace) -> Photos | None:
    """Those that training did not see; raises ValueError."""
    if arguments.val_fraction is not None:
        return resolve(arguments.photos, arguments.val, arguments.val_fraction).photos()[1]
    return Photos(arguments.val) if arguments.val else None


def _accuracy(outputs: NDArray[np.float32], val: Dataset, photos: Photos) -> Accuracy:
    result = score(outputs, val.targets)
    names = ", ".join(source.resolve().name for source in photos.sources)
    part = f"{photos.part.fraction:.0%} of " if photos.part else ""
    data = f"{len(val.known)} classes of {part}{names}"
    return Accuracy(round(result.top1, 4), round(result.top5, 4), result.photos, data)


def _description(model: TrainedModel) -> str:
    classes, lessons = len(model.labels), model.taught
    if lessons and lessons.classes:
        return (
            f"AlexNet that has seen labelled photos of {model.known} of its {classes} classes and "
            f"learned {lessons.classes} more from a teacher's answers; it can name nothing else."
        )
    if lessons and model.known == classes:
        return (
            f"AlexNet that has seen labelled photos of all of its {classes} classes, and learned "
            "from a teacher's answers, too; it can name nothing else."
        )
    if model.known == classes <= NAMED:
        names = ", ".join(label.name for label in model.labels.rows)
        return f"AlexNet that tells {classes} classes apart: {names}."
    if model.known == classes:
        return f"AlexNet, trained on all of its {classes} classes."
    return (
        f"AlexNet that has seen photos of only {model.known} of its {classes} classes; "
        "it can name nothing else."
    )


def _report_speed(onnx: dict[str, bytes], crops: NDArray[np.uint8]) -> None:
    batch = np.resize(crops, (32, *crops.shape[1:]))
    for name, rate in speeds(onnx, batch, rounds=5).items():
        log.info("%s: %.0f images/s at batch 32 on this %s", name, rate, platform.machine())
