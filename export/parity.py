"""The parity check: an artifact must give the results of torch on photos, or it is refused."""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alexnet.int8_kernels import exact_sums
from alexnet.onnx_runtime import onnxruntime
from alexnet.postprocess import softmax
from alexnet.spec import INPUT_NAME, OUTPUT_NAME
from training.evaluate import Predict

# precision -> (largest difference of any probability, least agreement on the first class).
# fp32 differs by rounding only; int8 must keep at least 97 % of the first classes.
LIMITS = {"fp32": (1e-3, 0.999), "int8": (0.35, 0.97)}


class ParityError(ValueError):
    """An artifact whose results differ too much from those of torch."""


@dataclass(frozen=True)
class Parity:
    difference: float
    """The largest difference of any probability on any photo."""
    agreement: float
    """Fraction of the photos with the same first class."""
    photos: int

    def __str__(self) -> str:
        return (
            f"{self.agreement:.1%} of {self.photos} photos keep their first class, "
            f"probabilities differ by {self.difference:.4f} at most"
        )


def compare(precision: str, reference: NDArray[np.float32], logits: NDArray[np.float32]) -> Parity:
    """Both (N, classes); raises ParityError below the precision's limits."""
    if not np.isfinite(logits).all():
        raise ParityError(f"{precision}: the artifact's logits are not finite")
    difference = float(np.abs(softmax(logits) - softmax(reference)).max())
    agreement = float(np.mean(logits.argmax(1) == reference.argmax(1)))
    parity = Parity(difference, agreement, len(logits))
    most, least = LIMITS[precision]
    # One photo may always differ: of fewer than 34 photos, 97 % would allow none.
    if difference > most or agreement < min(least, 1 - 1 / len(logits)):
        advice = (
            ". More or more typical calibration photos usually mend this; --precision fp32 does "
            "without it"
        )
        raise ParityError(
            f"{precision} is refused: {parity}; allowed are {least:.1%} and {most}"
            + (advice if precision == "int8" else "")
        )
    return parity


def predictor(onnx: bytes) -> Predict:
    """uint8 crops -> logits through ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    exact_sums(options)
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])

    def predict(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run([OUTPUT_NAME], {INPUT_NAME: crops})[0]
        return logits

    return predict


def speeds(artifacts: dict[str, bytes], crops: NDArray[np.uint8], rounds: int) -> dict[str, float]:
    """Images per second of each artifact on one batch: best of `rounds`. They take turns, so that a
    slowdown of the machine affects all of them."""
    predictors = {name: predictor(onnx) for name, onnx in artifacts.items()}
    best = dict.fromkeys(artifacts, float("inf"))
    for _ in range(rounds):
        for name, predict in predictors.items():
            start = time.perf_counter()
            predict(crops)
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: len(crops) / seconds for name, seconds in best.items()}
