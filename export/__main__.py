"""`alexnet-export`: a checkpoint or torchvision weights -> a bundle for `alexnet-server`."""

import argparse
import logging
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet.manifest import Accuracy
from alexnet.spec import Preprocess
from export.pack import VerifiedArtifact, golden_batch, pack
from export.parity import compare, predictor, speeds
from export.precision import calibrate, to_int8
from export.to_onnx import to_onnx
from training.data import Dataset, load, load_unlabelled
from training.evaluate import Predict, infer_all, score
from training.importers import TrainedModel, load_model

log = logging.getLogger(__name__)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        export(_arguments())
    except (ValueError, OSError) as error:
        sys.exit(f"alexnet-export: {error}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="alexnet-export",
        description="Turn AlexNet weights into a bundle: ONNX, fp32 and int8, verified on photos.",
        epilog="example: alexnet-export alexnet.pth --photos holiday/ --output models/mine",
    )
    parser.add_argument(
        "weights", type=Path,
        help="model.safetensors, torchvision's .pth, a .caffemodel, a cuda-convnet checkpoint",
    )  # fmt: skip
    parser.add_argument(
        "--photos", nargs="+", type=Path, required=True, metavar="DIR_OR_ZIP",
        help="any typical photos, for the calibration of int8, the parity check, the golden batch",
    )  # fmt: skip
    parser.add_argument(
        "--val", nargs="+", type=Path, default=[], metavar="DIR_OR_ZIP",
        help="photos in class folders, for parity and accuracy",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, help="folder, or file.tar.xz")
    parser.add_argument("--precision", default="int8,fp32", help="default: int8,fp32")
    parser.add_argument(
        "--tile", type=int, metavar="PX",
        help="first make JPEG tiles of this side: for networks trained on such tiles",
    )  # fmt: skip
    parser.add_argument(
        "--class-order", type=Path, metavar="FILE",
        help="for weights without a class order: one synset a line",
    )  # fmt: skip
    parser.add_argument(
        "--remarks", type=Path, metavar="FILE", help="text that the model card ends with"
    )
    parser.add_argument("--calibration-photos", type=int, default=512, metavar="N")
    parser.add_argument("--name", default="alexnet")
    parser.add_argument("--version", help="default: today's date and the weights' hash")
    parser.add_argument("--description", help="one sentence about the model")
    return parser.parse_args()


def export(arguments: argparse.Namespace) -> None:
    precisions = [p.strip() for p in arguments.precision.split(",")]
    if unknown := set(precisions) - {"int8", "fp32"}:
        raise ValueError(f"unknown precision {', '.join(unknown)}; there are int8 and fp32")
    model = load_model(arguments.weights, arguments.class_order)
    spec = Preprocess(crop=model.crop, tile=arguments.tile)
    remarks = arguments.remarks.read_text() if arguments.remarks else ""
    photos = load_unlabelled(arguments.photos, spec, arguments.calibration_photos)
    val = load(arguments.val, spec, model.labels) if arguments.val else None
    measured = photos if val is None else val.images
    reference = infer_all(_torch_predictor(model), measured)
    golden = golden_batch(measured, reference)
    onnx = {"fp32": to_onnx(model, spec.crop)}
    if "int8" in precisions:
        log.info("calibrating int8 on %d photos", len(photos))
        onnx["int8"] = to_int8(model, spec.crop, calibrate(model, photos))
    verified = []
    for precision in precisions:
        outputs = infer_all(predictor(onnx[precision]), measured)
        parity = compare(precision, reference, outputs)
        log.info("%s: %s", precision, parity)
        accuracy = None if val is None else _accuracy(outputs, val, arguments.val)
        if accuracy:
            log.info("%s: top-1 %.1f %%, top-5 %.1f %%", precision, *_percent(accuracy))
        difference = golden.difference(outputs[: len(golden.crops)])
        verified.append(VerifiedArtifact(precision, onnx[precision], parity, difference, accuracy))
    _report_speed(onnx, measured)
    version = arguments.version or f"{datetime.now(UTC):%Y%m%d}-{model.sha256[:7]}"
    description = arguments.description or _description(model)
    bundle = pack(
        model, verified, golden, spec,
        name=arguments.name, version=version, description=description, remarks=remarks,
    )  # fmt: skip
    log.info("packing %s", arguments.output)
    bundle.write(arguments.output)


def _torch_predictor(model: TrainedModel) -> Predict:
    def predict(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return model.deployable(torch.from_numpy(crops)).numpy()

    return predict


def _accuracy(outputs: NDArray[np.float32], val: Dataset, sources: list[Path]) -> Accuracy:
    result = score(outputs, val.targets)
    names = ", ".join(source.name for source in sources)
    data = f"{len(val.known)} classes of {names}"
    return Accuracy(round(result.top1, 4), round(result.top5, 4), result.photos, data)


def _percent(accuracy: Accuracy) -> tuple[float, float]:
    return 100 * accuracy.top1, 100 * accuracy.top5


def _description(model: TrainedModel) -> str:
    classes = len(model.labels)
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


if __name__ == "__main__":
    main()
