"""The class order of a checkpoint: a text file with one synset a line."""

from pathlib import Path

from alexnet.labels import Labels
from training.checkpoint import CheckpointError


def class_order(path: Path, labels: Labels) -> list[int]:
    """For each label its position in the file, blank lines not counted.

    The synset is the first word of a line. Raises CheckpointError unless the file has each label
    exactly once.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"the classes in {path} cannot be read: {error}") from None
    synsets = [line.split()[0] for line in lines if line.strip()]
    if len(synsets) != len(labels):
        raise CheckpointError(f"{path} lists {len(synsets)} classes, expected {len(labels)}")
    position: dict[str, int] = {}
    for index, synset in enumerate(synsets):
        if synset not in labels.index:
            raise CheckpointError(
                f"{path} lists {synset[:40]}, which is no class of ImageNet's 1000"
            )
        if position.setdefault(synset, index) != index:
            raise CheckpointError(f"{path} lists {synset} twice")
    return [position[label.synset] for label in labels.rows]
