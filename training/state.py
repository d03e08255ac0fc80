"""The state of a run between two steps: weights, momentum, and progress."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.checkpoint import Checkpoint, CheckpointError
from training.columns import Column
from training.network import AlexNet
from training.recipe import Recipe

FILE = "last.safetensors"


@dataclass
class State:
    """Contains no random generator: all randomness is seeded by the step number."""

    recipe: Recipe
    network: AlexNet | Column
    optimizer: torch.optim.SGD
    step: int = 0
    loss: Tensor = field(default_factory=lambda: torch.zeros(()))
    """Sum over the steps of the current epoch."""
    seconds: float = 0.0
    """Time spent on training, without validation."""
    lineage: list[str] = field(default_factory=list)
    """The recipes that trained these weights, this one last."""
    dense: dict[str, Any] | None = None
    """Accuracy before pruning began."""

    def weights(self) -> dict[str, Tensor]:
        """The weights of the whole network; with columns, all processes must call it."""
        return {name: self._whole(name, t) for name, t in self.network.state_dict().items()}

    def checkpoint(self) -> Checkpoint:
        tensors = {f"network.{name}": tensor for name, tensor in self.weights().items()}
        for name, parameter in self.network.named_parameters():
            momentum = self.optimizer.state[parameter]["momentum_buffer"]
            tensors[f"momentum.{name}"] = self._whole(name, momentum)
        tensors["sum.loss"] = self.loss
        facts = {
            "recipe": self.recipe.to_json(),
            "step": self.step,
            "seconds": self.seconds,
            "lineage": self.lineage,
            "dense": self.dense,
        }
        return Checkpoint(tensors, facts)

    def init(self, path: Path) -> None:
        """Loads the weights of a `last.safetensors`, not its momentum; raises CheckpointError."""
        checkpoint = Checkpoint.load(path)
        try:
            self._load(checkpoint.part("network"))
        except RuntimeError as error:
            raise CheckpointError(f"{path} does not fit this network: {error}") from None
        self.lineage = [*checkpoint.facts["lineage"], self.recipe.name]
        self.seconds = checkpoint.facts["seconds"]

    def resume(self, run: Path) -> None:
        """Loads the checkpoint of the run folder; raises CheckpointError, ValueError."""
        checkpoint = Checkpoint.load(run / FILE)
        facts = checkpoint.facts
        if "step" not in facts:
            raise CheckpointError(f"{run / FILE} was written before runs could stop anywhere")
        if Recipe.from_json(facts["recipe"]) != self.recipe:
            raise ValueError(f"{run} holds a run of another recipe")
        try:
            self._load(checkpoint.part("network"))
        except RuntimeError as error:
            raise ValueError(f"{run} holds a run on other classes") from error
        momentum = checkpoint.part("momentum")
        for name, parameter in self.network.named_parameters():
            # In the memory layout of the parameter, which the fused optimiser step requires.
            buffer = torch.empty_like(parameter, requires_grad=False)
            buffer.copy_(self._part(name, momentum[name]))
            self.optimizer.state[parameter]["momentum_buffer"] = buffer
        self.loss.copy_(checkpoint.tensors["sum.loss"])
        self.step, self.seconds = facts["step"], facts["seconds"]
        self.lineage, self.dense = facts["lineage"], facts["dense"]

    def _load(self, weights: dict[str, Tensor]) -> None:
        self.network.load_state_dict({k: self._part(k, v) for k, v in weights.items()})

    def _part(self, name: str, tensor: Tensor) -> Tensor:
        return self.network.part(name, tensor) if isinstance(self.network, Column) else tensor

    def _whole(self, name: str, tensor: Tensor) -> Tensor:
        return self.network.whole(name, tensor) if isinstance(self.network, Column) else tensor
