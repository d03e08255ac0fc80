"""The human-readable results of a run: its log, TensorBoard, plots, and a card."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from alexnet.labels import Labels
from alexnet.manifest import accuracy_in_words, minutes_in_words
from training.checkpoint import Checkpoint
from training.classes import class_table
from training.plots import filter_grid, plot_confusion, plot_curves, plot_filters
from training.recipe import Recipe
from training.validation import Outcome

LOG = "log.jsonl"

CARD = """\
# {recipe}: {arch}, {known} classes{more}

{accuracy} of {scored:,} validation photos (central crop, {crop} px).
{pruning}
- Trained on {photos:,} photos ({skipped} could not be read), {minutes}, commit {commit}
{taught}- Recipes that the weights went through: {lineage}
- Machine and versions: environment.json; settings: recipe.json; each epoch: log.jsonl

![curves](curves.png)

The filters of conv1:

![filters](filters.png)
"""

CLASSES = """
The classes, the worst first:

```
{table}
```

![confusion](confusion.png)
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
        """Writes one line of `log.jsonl`, and its point to TensorBoard.

        A run that goes on from a checkpoint may do epochs again: their old lines go.
        """
        if self.active:
            board = self._begin()
            board.add_scalar("validation/top1", row["top1"], step)
            board.add_scalar("validation/top5", row["top5"], step)
            if "val_loss" in row:
                board.add_scalar("validation/loss", row["val_loss"], step)
            rows = [r for r in read_log(self.run) if r["epoch"] < row["epoch"]]
            text = "".join(json.dumps(r) + "\n" for r in [*rows, row])
            write_whole(self.run / LOG, text)

    def finish(self, model: Checkpoint, step: int, outcome: Outcome) -> None:
        """Writes the plots and the card."""
        if not self.active:
            return
        facts = model.facts
        conv1 = next(t for t in model.tensors.values() if t.dim() == 4 and t.shape[1] == 3)
        labels, known = Labels.from_tsv(facts["labels"]), learnt_classes(facts)
        title = f"{self.run.name}: {len(known)} classes, recipe {self.recipe.name}"
        plot_curves(read_log(self.run), title, self.run / "curves.png", len(known))
        names = [labels[i].name for i in known]
        plot_confusion(outcome.confusion[np.ix_(known, known)], names, self.run / "confusion.png")
        plot_filters(conv1, self.run / "filters.png")
        with SummaryWriter(self.run / "tensorboard") as board:
            board.add_image("conv1", filter_grid(conv1), step, dataformats="HWC")
        table = "\n".join(class_table(outcome.confusion, labels))
        write_whole(self.run / "card.md", format_card(facts) + CLASSES.format(table=table))

    def _write(self, name: str, value: dict[str, Any]) -> None:
        write_whole(self.run / name, json.dumps(value, indent=2) + "\n")


def learnt_classes(facts: dict[str, Any]) -> list[int]:
    """From photos with classes or from a teacher, ascending."""
    return sorted({*facts["known"], *(facts.get("taught") or {}).get("classes", ())})


def format_card(facts: dict[str, Any]) -> str:
    result, dense, taught = facts["accuracy"], facts["dense"], facts.get("taught")
    learnt = len(learnt_classes(facts))
    pruning = lessons = more = ""
    if taught:
        alone = ""
        if count := len(taught["classes"]):
            more = f" and {count} more from a teacher"
            alone = f"; {count} classes are known from its answers only"
        lessons = (
            f"- Taught by {taught['teacher']}: its answers to {taught['photos']:,} photos{alone}\n"
        )
    if dense:
        pruning = (
            f"\nPruned: {facts['recipe']['sparsity']:.0%} of the fully connected weights are zero. "
            f"When pruning began: "
            f"{accuracy_in_words(dense['top1'], dense['top5'], learnt)}.\n"
        )
    return CARD.format(
        recipe=facts["recipe"]["name"], arch=facts["arch"], known=len(facts["known"]),
        accuracy=accuracy_in_words(result["top1"], result["top5"], learnt),
        scored=result["photos"], crop=facts["crop"],
        pruning=pruning, taught=lessons, more=more,
        photos=facts["photos"], skipped=facts["skipped"],
        minutes=minutes_in_words(
            facts["train_minutes"], facts.get("run_minutes"), len(facts["lineage"])
        ),
        commit=facts["commit"], lineage=", ".join(facts["lineage"]),
    )  # fmt: skip


def read_log(run: Path) -> list[dict[str, Any]]:
    """The rows of `log.jsonl`; none before the first epoch has ended."""
    path = run / LOG
    return (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if path.exists()
        else []
    )


def write_whole(path: Path, text: str) -> None:
    """Replaces the file: on a full disk the old one stays, and no half of the new one."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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


def progress_bar(total: int, done: int, *, active: bool) -> Any:
    """A context manager; lines written by its `write` do not break it."""
    return tqdm(
        total=total, initial=done, disable=not active,
        bar_format="{desc} {percentage:3.0f}%|{bar:20}| {elapsed} < {remaining}{postfix}",
    )  # fmt: skip


def git_commit() -> str:
    """Of this checkout; `unknown` without git, and outside of one: so is a virtual environment in
    another repository."""
    package = Path(__file__).resolve().parent
    top = _git("rev-parse", "--show-toplevel", cwd=package)
    if not top or Path(top).resolve() != package.parent:
        return "unknown"
    return _git("describe", "--always", "--dirty", cwd=package) or "unknown"


def _git(*arguments: str, cwd: Path) -> str:
    """What git prints; nothing if it fails."""
    try:
        git = subprocess.run(
            ["git", *arguments], cwd=cwd, capture_output=True, text=True, check=False
        )
    except OSError:  # there is no git
        return ""
    return git.stdout.strip()
