"""The weights that a run starts from, read from any file, bundle or run folder (`--init`)."""

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from alexnet.labels import Labels
from training.checkpoint import Checkpoint, CheckpointError
from training.importers import TrainedModel, load_model
from training.importers.base import channel_means
from training.importers.torchvision import recognises
from training.network import ARCHITECTURES, AlexNet
from training.recipe import Recipe
from training.renorm import to_normed

SMALL_CROP, SMALL_EPOCHS = 9 / 14, 0.6
"""Side of the photos of the first epochs of fine-tuning, in multiples of 16 px (144 of 224), and
which part these are."""
RUN_FILES = ("model.safetensors", "last.safetensors")


@dataclass(frozen=True)
class Start:
    """A trained network of any number of classes."""

    name: str
    """As given on the command line."""
    arch: str
    weights: dict[str, Tensor]
    labels: Labels | None
    """None where the file does not say."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop: int
    """Side in px of the photos it was trained on."""
    lineage: list[str]
    seconds: float
    """What its training took."""
    plain: bool = False
    """Whether dropout's factor is folded into the weights (training/plain.py)."""
    convolutions_only: bool = False
    """Whether the fully connected layers have learnt nothing."""

    @property
    def head(self) -> tuple[str, str]:
        """The names of the last layer's weights and biases."""
        layers = [name.split(".")[1] for name in self.weights if name.startswith("classifier.")]
        last = max(map(int, layers))
        return f"classifier.{last}.weight", f"classifier.{last}.bias"

    def rows(self, labels: Labels) -> list[int] | None:
        """Where the head has each of these classes; None if it lacks one: then it is of no use."""
        if self.convolutions_only:
            return None
        if self.labels is None:
            count = len(self.weights[self.head[0]])
            return list(range(count)) if count == len(labels) else None
        found = [self.labels.index.get(label.synset) for label in labels.rows]
        return [row for row in found if row is not None] if None not in found else None

    def weights_for(self, labels: Labels, dropout: float) -> dict[str, Tensor]:
        """The weights of a network in training with these classes, without a head if it is new."""
        weights = dict(self.weights)
        if self.plain and ARCHITECTURES[self.arch].original:
            # The inverse of what `to_plain` does to the two layers behind dropout.
            for name in ("classifier.3.weight", "classifier.6.weight"):
                weights[name] = weights[name] / (1 - dropout)
        rows = self.rows(labels)
        for name in self.head:
            head = weights.pop(name)
            if rows is not None:
                weights[name] = head[rows]
        return weights

    def with_norms(self, photos: Tensor) -> "Start":
        """The same with batch norm, which takes its statistics from photos as the network sees
        them, (N, 3, H, W)."""
        network = AlexNet(len(self.weights[self.head[0]]), self.arch, dropout=0.0).eval()
        network.load_state_dict(self.weights)
        normed = to_normed(network, photos)
        return replace(self, arch=normed.arch, weights=normed.state_dict(), plain=False)

    def for_network(self, arch: str) -> "Start":
        """The same; or, for a network whose convolutions are the same but not what is behind them,
        these in front of fully connected layers that have learnt nothing."""
        ours = ARCHITECTURES[self.arch]
        if not ours.batch_norm:
            arch = arch.removesuffix("-bn")
        theirs = ARCHITECTURES[arch]
        same = (theirs.features, theirs.batch_norm) == (ours.features, ours.batch_norm)
        if arch == self.arch or not same:
            return self
        own = {name: t for name, t in self.weights.items() if name.startswith("features.")}
        weights = AlexNet(1, arch, dropout=0.0).state_dict() | own
        return replace(self, arch=arch, weights=weights, labels=None, convolutions_only=True)

    def describe(self, labels: Labels) -> str:
        """One sentence for the log."""
        if self.convolutions_only:
            head = "its convolutions alone"
        else:
            kept = self.rows(labels) is not None
            head = "its last layer knows these classes" if kept else "with a new last layer"
        return f"starts from {self.name} ({', '.join(self.lineage)}), {head}"


def read(path: Path) -> Start:
    """From a bundle, a file of weights, a checkpoint or a run folder; raises CheckpointError."""
    found = next((path / name for name in RUN_FILES if (path / name).is_file()), path)
    if found.suffix == ".safetensors" and not (found.is_file() and recognises(found)):
        checkpoint = Checkpoint.load(found)
        if "step" in checkpoint.facts:
            return _unfinished(checkpoint, found)
    return _finished(load_model(found), path)


def suit(recipe: Recipe, start: Start) -> Recipe:
    """`recipe` for these weights: their network, their pixels, their size. Most epochs see smaller
    photos, which cost less than half; the network pools them to the same places."""
    small = int(SMALL_EPOCHS * recipe.epochs)
    smaller = max(64, int(SMALL_CROP * start.crop) // 16 * 16)
    sizes = ((0, smaller), (small, start.crop)) if small else ((0, start.crop),)
    return replace(recipe, arch=start.arch, mean=start.mean, std=start.std, sizes=sizes)


def _unfinished(checkpoint: Checkpoint, path: Path) -> Start:
    facts = checkpoint.facts
    try:
        recipe = Recipe.from_json(facts["recipe"])
        tsv = facts.get("data", {}).get("labels")
        image = checkpoint.part("pixels").get("image")
        return Start(
            str(path), recipe.arch, checkpoint.part("average") or checkpoint.part("network"),
            Labels.from_tsv(tsv) if tsv else None,
            recipe.mean if image is None else channel_means(image), recipe.std,
            recipe.size_at(recipe.epochs - 1), facts["lineage"], facts["seconds"],
        )  # fmt: skip
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None


def _finished(model: TrainedModel, path: Path) -> Start:
    (red, green, blue), (r, g, b) = model.mean, model.std
    seconds = 60 * model.facts.get("train_minutes", 0.0)
    return Start(
        str(path), model.network.arch, model.network.state_dict(), model.labels,
        (red, green, blue), (r, g, b), model.crop, model.facts["lineage"], seconds, plain=True,
    )  # fmt: skip
