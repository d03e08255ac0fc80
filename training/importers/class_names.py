"""The classes of weights that do not name theirs: from a file, ImageNet's 1000, or numbered."""

from pathlib import Path

from alexnet.labels import Label, Labels
from training.checkpoint import CheckpointError


def class_names(count: int, path: Path | None) -> Labels:
    """Of `count` outputs in their order; raises CheckpointError unless the file has as many.

    The file is a bundle's `labels.tsv`, or has one class a line.
    """
    if path is None:
        imagenet = Labels.imagenet()
        numbered = (Label(f"class_{i}", f"class {i}") for i in range(count))
        return imagenet if count == len(imagenet) else Labels(tuple(numbered))
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"the classes in {path} cannot be read: {error}") from None
    try:
        labels = Labels.from_tsv(text) if text.startswith("index\t") else _lines(text)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if len(labels) != count:
        raise CheckpointError(f"{path} lists {len(labels)} classes, the weights have {count}")
    return labels


def _lines(text: str) -> Labels:
    """A name may have spaces, but no tab: that is what separates the columns of a bundle's."""
    names = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return Labels(tuple(Label(name, name) for name in names))
