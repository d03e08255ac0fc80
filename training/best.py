"""The best network of a run by its validation, and when to stop for want of a better one."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from training.checkpoint import Checkpoint
from training.evaluate import Score
from training.validation import Outcome

FILE = "best.safetensors"


class Best:
    """In memory from epoch to epoch, and written to the run folder whenever the run is saved."""

    def __init__(self, run: Path, patience: int | None):
        self.path, self.patience = run / FILE, patience
        self.epoch = 0
        """Counted from 1; 0: there is none yet."""
        self.weights: dict[str, Tensor] = {}
        """Of the network in training; none once they are in the file."""
        self.outcome: Outcome | None = None

    def offer(self, epoch: int, outcome: Outcome, weights: Callable[[], dict[str, Tensor]]) -> None:
        """Keeps a copy of `weights` if the outcome of this epoch is the best so far."""
        if self.outcome is None or outcome.merit > self.outcome.merit:
            self.epoch, self.outcome = epoch, outcome
            self.weights = {name: tensor.detach().clone() for name, tensor in weights().items()}

    def is_over(self, epoch: int) -> bool:
        """Whether `patience` epochs in a row have brought nothing better."""
        return self.patience is not None and self.epoch > 0 and epoch - self.epoch >= self.patience

    def save(self, model: Checkpoint) -> None:
        """Writes the finished model of `weights`, and forgets them."""
        assert self.outcome is not None, "there is a best one"
        facts = {"epoch": self.epoch, "loss": self.outcome.loss, "photos": self.outcome.photos}
        tensors = {**model.tensors, "confusion": torch.from_numpy(self.outcome.confusion)}
        Checkpoint(tensors, {**model.facts, "best": facts}).save(self.path)
        self.weights = {}

    def load(self) -> Checkpoint:
        """The best model as `save` got it."""
        saved = Checkpoint.load(self.path)
        saved.tensors.pop("confusion")
        saved.facts.pop("best")
        return saved

    def resume(self, photos: str) -> None:
        """Takes up the file of an earlier part of the run, if there is one. Raises ValueError if it
        was scored on other validation photos: no score of these can be compared with its own."""
        if not self.path.is_file():
            return
        saved = Checkpoint.load(self.path)
        best = saved.facts["best"]
        if best.get("photos") not in (None, photos):  # earlier versions did not write it down
            raise ValueError(
                f"the best network so far, {self.path}, was scored on other validation photos: "
                f"name the same --val, or begin a new run with its weights: --init {self.path}"
            )
        score = Score(**saved.facts["accuracy"])
        confusion = saved.tensors["confusion"].numpy()
        self.epoch, self.outcome = best["epoch"], Outcome(score, best["loss"], confusion, photos)
