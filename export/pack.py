"""A model and its verified artifacts -> a bundle."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from alexnet.bundle import Bundle, sha256
from alexnet.golden import Golden
from alexnet.manifest import (
    FORMAT,
    Accuracy,
    Artifact,
    Calibration,
    File,
    Manifest,
    ModelName,
    Provenance,
    Tensor,
)
from alexnet.spec import INPUT_NAME, OUTPUT_NAME, Preprocess
from export.card import card
from export.parity import Parity
from training.importers import TrainedModel


@dataclass(frozen=True)
class VerifiedArtifact:
    """An artifact that passed parity."""

    precision: str
    onnx: bytes
    parity: Parity
    golden_difference: float
    accuracy: Accuracy | None

    @property
    def file(self) -> str:
        return f"model.{self.precision}.onnx"

    @property
    def tolerance(self) -> float:
        """Twice the difference measured here, as other machines round differently; at least 1 %, of
        int8 6 %: the golden photos are few, and an engine that rounds in other places differs."""
        least = 0.06 if self.precision == "int8" else 0.01
        return max(least, round(2 * self.golden_difference, 4))


def pack(
    model: TrainedModel,
    verified: list[VerifiedArtifact],
    golden: Golden,
    spec: Preprocess,
    *,
    name: str,
    version: str,
    description: str,
    remarks: str = "",
    calibration: Calibration | None = None,
) -> Bundle:
    """The bundle, validated as when it is opened."""
    side, classes = spec.crop, model.network.classes
    files = {
        "labels.tsv": model.labels.to_tsv().encode(),
        "golden.npz": golden.to_bytes(),
        **{v.file: v.onnx for v in verified},
    }
    entries = {file: File(file, sha256(data)) for file, data in files.items()}
    facts = model.facts
    manifest = Manifest(
        format=FORMAT,
        model=ModelName(name, version, classes, model.known, description),
        preprocess=spec,
        input=Tensor(INPUT_NAME, "uint8", ("batch", side, side, 3)),
        output=Tensor(OUTPUT_NAME, "float32", ("batch", classes)),
        artifacts=tuple(_artifact(v, entries[v.file].sha256) for v in verified),
        labels=entries["labels.tsv"],
        golden=entries["golden.npz"],
        card=File("card.md", ""),
        provenance=Provenance(
            recipe=", then ".join(facts["lineage"]),
            commit=facts["commit"],
            checkpoint_sha256=model.sha256,
            train_photos=facts.get("photos", 0),
            train_minutes=facts.get("train_minutes", 0.0),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
        taught=model.taught,
        calibration=calibration,
    )
    text = card(manifest, model, remarks).encode()
    manifest = replace(manifest, card=File("card.md", sha256(text)))
    return Bundle(manifest, {**files, "card.md": text}, name)


def _artifact(verified: VerifiedArtifact, digest: str) -> Artifact:
    return Artifact(
        file=verified.file,
        sha256=digest,
        runtime="onnxruntime",
        precision=verified.precision,
        requires={},
        tolerance=verified.tolerance,
        agreement=verified.parity.agreement,
        accuracy=verified.accuracy,
    )


def golden_batch(crops: NDArray[np.uint8], logits: NDArray[np.float32]) -> Golden:
    """Four crops: enough to fill a batch, few enough for the bundle to stay small."""
    return Golden(crops[:4].copy(), logits[:4].copy())
