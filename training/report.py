"""The human-readable results of a run: its log, TensorBoard, plots, and a card."""

import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from training.checkpoint import Checkpoint
from training.plots import filter_grid, plot_curves, plot_filters
from training.recipe import Recipe

LOG = "log.jsonl"

CARD = """\
# {recipe}: {arch}, {known} classes

{top1:.1%} top-1 and {top5:.1%} top-5 of {scored:,} validation photos (central crop, {crop} px).
{pruning}
- Trained on {photos:,} photos ({skipped} could not be read), {minutes:g} minutes, commit {commit}
- Recipes that the weights went through: {lineage}
- Machine and versions: environment.json; settings: recipe.json; each epoch: log.jsonl

![curves](curves.png)

The filters of conv1:

![filters](filters.png)
"""


class RunLog:
    """The log of the run folder, a context manager; does nothing unless `active`."""

    def __init__(self, run: Path, recipe: Recipe, *, active: bool = True):
        self.run, self.recipe, self.active = run, recipe, active
        self.board: SummaryWriter | None = None

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self.board:
            self.board.close()

    def _begin(self) -> SummaryWriter:
        """Called before the first line, so that a run that fails at once leaves no files."""
        if self.board is None:
            self.run.mkdir(parents=True, exist_ok=True)
            self._write("recipe.json", self.recipe.to_json())
            self._write("environment.json", describe_environment())
            self.board = SummaryWriter(self.run / "tensorboard")
        return self.board

    def step(self, step: int, loss: float, top1: float, lr: float, rate: float) -> None:
        """Writes one point to TensorBoard."""
        if self.active:
            board = self._begin()
            for name, value in (
                ("train/loss", loss), ("train/top1", top1),
                ("train/learning_rate", lr), ("train/images_per_s", rate),
            ):  # fmt: skip
                board.add_scalar(name, value, step)

    def epoch(self, row: dict[str, Any], step: int) -> None:
        """Writes one line of `log.jsonl`, and its point to TensorBoard."""
        if self.active:
            board = self._begin()
            board.add_scalar("validation/top1", row["top1"], step)
            board.add_scalar("validation/top5", row["top5"], step)
            with (self.run / LOG).open("a") as file:
                file.write(json.dumps(row) + "\n")

    def finish(self, model: Checkpoint, step: int) -> None:
        """Writes the plots and the card."""
        if not self.active:
            return
        facts, conv1 = model.facts, next(iter(model.tensors.values()))
        rows = [json.loads(line) for line in (self.run / LOG).read_text().splitlines()]
        plot_curves(rows, f"{facts['arch']}, recipe {self.recipe.name}", self.run / "curves.png")
        plot_filters(conv1, self.run / "filters.png")
        with SummaryWriter(self.run / "tensorboard") as board:
            board.add_image("conv1", filter_grid(conv1), step, dataformats="HWC")
        (self.run / "card.md").write_text(format_card(facts))

    def _write(self, name: str, value: dict[str, Any]) -> None:
        (self.run / name).write_text(json.dumps(value, indent=2) + "\n")


def format_card(facts: dict[str, Any]) -> str:
    result, dense = facts["accuracy"], facts["dense"]
    pruning = ""
    if dense:
        pruning = (
            f"\nPruned: {facts['recipe']['sparsity']:.0%} of the fully connected weights are zero. "
            f"When pruning began: {dense['top1']:.1%} top-1, {dense['top5']:.1%} top-5.\n"
        )
    return CARD.format(
        recipe=facts["recipe"]["name"], arch=facts["arch"], known=len(facts["known"]),
        top1=result["top1"], top5=result["top5"], scored=result["photos"], crop=facts["crop"],
        pruning=pruning, photos=facts["photos"], skipped=facts["skipped"],
        minutes=facts["train_minutes"], commit=facts["commit"], lineage=", ".join(facts["lineage"]),
    )  # fmt: skip


def describe_environment() -> dict[str, Any]:
    """Machine and versions, to put figures into context later."""
    cuda = torch.cuda.is_available()
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "cuda": torch.version.cuda if cuda else None,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "packages": {name: version(name) for name in ("torch", "numpy", "pillow", "webdataset")},
    }
