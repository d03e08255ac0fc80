"""Our own `model.safetensors`."""

from pathlib import Path
from typing import Any

from alexnet.bundle import sha256
from alexnet.labels import Labels
from alexnet.manifest import Taught
from training.checkpoint import Checkpoint, CheckpointError
from training.importers.base import TrainedModel, load_network, to_float32
from training.network import ARCHITECTURES


def load(path: Path) -> TrainedModel:
    checkpoint = Checkpoint.load(path)
    facts = checkpoint.facts
    arch = facts.get("arch")
    if not isinstance(arch, str) or arch not in ARCHITECTURES or ARCHITECTURES[arch].batch_norm:
        raise CheckpointError(f"{path} is not a finished model: export takes model.safetensors")
    try:
        labels = Labels.from_tsv(_text(facts["labels"]))
        mean, std = _per_channel(facts["mean"]), _per_channel(facts["std"])
        known, crop = len(facts["known"]), int(facts.get("crop", 224))
        taught = _taught(facts.get("taught"), len(labels))
        _text(facts["commit"])
        for step in facts["lineage"]:
            _text(step)
        if min(std) <= 0 or not 63 <= crop <= 4096 or known > len(labels):
            raise ValueError(f"std {std}, crop {crop} and {known} known classes do not make sense")
    except KeyError as error:
        raise CheckpointError(f"{path} is damaged: its facts lack {error}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    network = load_network(checkpoint.part("network"), arch, len(labels), path)
    image = checkpoint.tensors.get("mean")
    if image is not None:
        image = to_float32(image, (crop, crop, 3), f"{path}: its mean image")
    digest = sha256(path.read_bytes())
    return TrainedModel(
        network, mean, std, labels, known, facts, digest, crop, image=image, taught=taught
    )


def _taught(facts: Any, classes: int) -> Taught | None:
    """What a teacher added, if there was one; checkpoints of earlier versions do not say."""
    if facts is None:
        return None
    photos, known = facts["photos"], facts["classes"]
    if not isinstance(photos, int) or photos < 0 or len(known) > classes:
        raise ValueError(f"{photos} photos and {known} do not make sense as a teacher's")
    return Taught(_text(facts["teacher"]), photos, len(known))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} in its facts is no text")
    return value


def _per_channel(values: Any) -> tuple[float, ...]:
    """Three numbers between 0 and 255."""
    numbers = tuple(float(value) for value in values)
    if len(numbers) != 3 or not all(0 <= number <= 255 for number in numbers):
        raise ValueError(f"{numbers} are no mean or std of three channels")
    return numbers
