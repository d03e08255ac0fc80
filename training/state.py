"""The state of a run between two steps: weights, momentum, and progress."""

from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alexnet.labels import Labels
from training.average import decay_at, update
from training.checkpoint import Checkpoint, CheckpointError
from training.columns import Column
from training.data import Dataset
from training.network import AlexNet
from training.pixels import Pixels
from training.recipe import Recipe
from training.start import Start, read

FILE = "last.safetensors"
_SAMPLE = 256  # photos from which batch norm takes its statistics


@dataclass
class State:
    """Contains no random generator: all randomness is seeded by the step number."""

    recipe: Recipe
    network: AlexNet | Column
    optimizer: torch.optim.SGD
    data: Dataset
    """The photos with classes; none where a teacher alone is learnt from."""
    first: Dataset
    """The photos of the first pool, of which there are always some."""
    step: int = 0
    loss: Tensor = field(default_factory=lambda: torch.zeros(()))
    """Sum over the steps of the current epoch, a full batch counting 1."""
    seconds: float = 0.0
    """Time spent on training, without validation; with that of the weights it began with."""
    before_s: float = 0.0
    """The part of these weights."""
    lineage: list[str] = field(default_factory=list)
    """The recipes that trained these weights, this one last."""
    dense: dict[str, Any] | None = None
    """Accuracy before pruning began."""
    pools: list[Any] = field(default_factory=list)
    """Soft labels and photos a batch of each pool; empty for one pool without a teacher."""
    pixels: Pixels | None = None
    """What the run needs of its photos' pixels, once it is measured."""

    def __post_init__(self) -> None:
        self.average: AlexNet | Column | None = None
        if self.recipe.average:
            self.average = deepcopy(self.network).requires_grad_(False)

    @property
    def scored(self) -> AlexNet | Column:
        """What is scored and exported: the network, or the average of its past weights."""
        return self.network if self.average is None else self.average

    @property
    def networks(self) -> list[AlexNet | Column]:
        return [self.network] if self.average is None else [self.network, self.average]

    def advance(self) -> None:
        """Counts a step, after the optimiser has taken it."""
        self.step += 1
        if self.average is not None:
            update(self.average, self.network, decay_at(self.recipe.average, self.step))

    def weights(self, network: AlexNet | Column) -> dict[str, Tensor]:
        """The weights of the whole of `network`; with columns, all processes must call it."""
        return {name: self._whole(name, t) for name, t in network.state_dict().items()}

    def checkpoint(self) -> Checkpoint:
        tensors = {f"network.{name}": t for name, t in self.weights(self.network).items()}
        if self.average is not None:
            average = self.weights(self.average)
            tensors |= {f"average.{name}": tensor for name, tensor in average.items()}
        for name, parameter in self.network.named_parameters():
            momentum = self.optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:  # a frozen layer has none yet
                tensors[f"momentum.{name}"] = self._whole(name, momentum)
        tensors["sum.loss"] = self.loss
        if self.pixels:
            tensors |= {f"pixels.{name}": t for name, t in self.pixels.tensors().items()}
        facts = {
            "recipe": self.recipe.to_json(),
            "step": self.step,
            "seconds": self.seconds,
            "before_s": self.before_s,
            "lineage": self.lineage,
            "dense": self.dense,
            "data": self._photos,
            "pools": self.pools,
        }
        return Checkpoint(tensors, facts)

    def init(self, start: Start | Path) -> None:
        """Takes over trained weights, not their momentum; of the last layer only if it has these
        classes. A network with batch norm takes those of the plain one, too. Raises
        CheckpointError."""
        start = read(start) if isinstance(start, Path) else start
        if self.recipe.arch == f"{start.arch}-bn":
            start = start.with_norms(self._sample())
        if start.arch != self.recipe.arch:
            raise CheckpointError(
                f"{start.name} does not fit this network: it is {start.arch}, and recipe "
                f"{self.recipe.name} trains {self.recipe.arch}"
            )
        weights = start.weights_for(self.data.labels, self.recipe.dropout)
        own = self.weights(self.network)
        if missing := own.keys() - weights.keys() - set(start.head):
            raise CheckpointError(f"{start.name} does not fit this network: no {min(missing)}")
        try:
            self._load({**own, **weights})
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(f"{start.name} does not fit this network: {reason}") from None
        self.lineage = [*start.lineage, self.recipe.name]
        self.seconds = self.before_s = start.seconds

    def _sample(self) -> Tensor:
        """(N, 3, side, side): some of the photos, as the network sees them."""
        chosen = self.first.images[:: max(1, len(self.first) // _SAMPLE)]
        pixels = torch.from_numpy(chosen.astype("float32"))
        mean, std = (torch.tensor(v) for v in (self.recipe.mean, self.recipe.std))
        return ((pixels - mean) / std).permute(0, 3, 1, 2)

    def resume(self, run: Path) -> None:
        """Loads the checkpoint of the run folder; raises CheckpointError, ValueError."""
        checkpoint = Checkpoint.load(run / FILE)
        facts = checkpoint.facts
        if "data" not in facts:  # photos behind the last full batch were left out then
            raise CheckpointError(
                f"{run / FILE} is of an earlier version, which made other batches; a new run can "
                f"take its weights: --init {run}"
            )
        there = Recipe.from_json(facts["recipe"])
        if there != self.recipe:
            differences = ", ".join(there.differences(self.recipe))
            raise ValueError(f"{run} holds a run of another recipe (there and here: {differences})")
        self._compare_photos(facts["data"], run)
        try:
            self._load(checkpoint.part("network"), checkpoint.part("average"))
        except RuntimeError as error:
            raise ValueError(f"{run} holds a run on other classes") from error
        if facts["pools"] != self.pools:
            raise ValueError(f"{run} holds a run with other soft labels or shares")
        momentum = checkpoint.part("momentum")
        for name, parameter in self.network.named_parameters():
            if name not in momentum:
                continue
            # In the memory layout of the parameter, which the fused optimiser step requires.
            buffer = torch.empty_like(parameter, requires_grad=False)
            buffer.copy_(self._part(name, momentum[name]))
            self.optimizer.state[parameter]["momentum_buffer"] = buffer
        self.loss.copy_(checkpoint.tensors["sum.loss"])
        self.step, self.seconds = facts["step"], facts["seconds"]
        self.before_s = facts.get("before_s", 0.0)  # earlier versions did not tell them apart
        self.lineage, self.dense = facts["lineage"], facts["dense"]
        measured = checkpoint.part("pixels")
        self.pixels = Pixels(**measured) if measured else None

    @cached_property
    def _photos(self) -> dict[str, Any]:
        data = self.data
        return {"photos": len(data), "labels": data.labels.to_tsv(), "digest": data.digest()}

    def _compare_photos(self, there: dict[str, Any], run: Path) -> None:
        """Raises ValueError that says what differs: a run goes on with its own photos only."""
        here, new = self._photos, f"a new run can take its weights: --init {run}"
        if there["labels"] != here["labels"]:
            ours, theirs = ([row.synset for row in Labels.from_tsv(d["labels"]).rows]
                            for d in (here, there))  # fmt: skip
            gone, added = (sorted(set(a) - set(b)) for a, b in ((theirs, ours), (ours, theirs)))
            changes = [f"{what} {', '.join(names[:5])}" for what, names in (
                ("lost", gone), ("new", added)) if names]  # fmt: skip
            raise ValueError(f"{run} holds a run on other classes ({'; '.join(changes)}); {new}")
        if there["photos"] != here["photos"]:
            counts = f"{there['photos']:,} then, {here['photos']:,} now"
            raise ValueError(f"{run} holds a run on other photos ({counts}); {new}")
        if there["digest"] != here["digest"]:
            raise ValueError(f"{run} holds a run on other photos, though as many; {new}")

    def _load(self, weights: dict[str, Tensor], average: dict[str, Tensor] | None = None) -> None:
        for network, tensors in zip(self.networks, (weights, average or weights), strict=False):
            network.load_state_dict({k: self._part(k, v) for k, v in tensors.items()})

    def _part(self, name: str, tensor: Tensor) -> Tensor:
        return self.network.part(name, tensor) if isinstance(self.network, Column) else tensor

    def _whole(self, name: str, tensor: Tensor) -> Tensor:
        return self.network.whole(name, tensor) if isinstance(self.network, Column) else tensor
