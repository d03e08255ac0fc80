"""The plots of a run: its curves, its confusion, its learning rates, and the filters of conv1."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from training.recipe import Recipe
from training.schedule import Rates, rates

mpl.use("agg")  # files, never windows
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.ticker import MaxNLocator

_NAMED = 40  # classes whose names fit beside a picture of the confusion
_STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "figure.dpi": 120,
    "font.size": 9,
}


def plot_curves(rows: list[dict[str, Any]], title: str, path: Path, classes: int = 1000) -> None:
    """Loss and accuracy after each epoch, from the rows of `log.jsonl`; of runs before there was a
    validation loss, without it. `classes` are those with photos: of five or fewer there is no
    top-5."""
    epochs = [row["epoch"] for row in rows]
    with plt.rc_context(_STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
        marker = "o" if len(rows) < 30 else ""
        for name, label, colour in (
            ("loss", "training", "tab:red"), ("val_loss", "validation", "tab:blue")
        ):  # fmt: skip
            values = [row.get(name, np.nan) for row in rows]
            if not np.isnan(values).all():
                text = f"{label}: {values[-1]:.2f}"
                left.plot(epochs, values, marker=marker, ms=3, color=colour, label=text)
        left.set(title="loss", xlabel="epoch")
        left.legend(loc="upper right", frameon=False)
        for name, label in (("top5", "top-5"), ("top1", "top-1"))[classes <= 5 :]:
            values = [100 * row[name] for row in rows]
            right.plot(epochs, values, marker=marker, ms=3, label=f"{label}: {values[-1]:.1f} %")
        right.set(title="validation accuracy, %", xlabel="epoch", ylim=(0, 100))
        right.legend(loc="lower right", frameon=False)
        for axes in (left, right):
            axes.set_xlim(0.5, epochs[-1] + 0.5)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        figure.suptitle(title)
        _save(figure, path)


def plot_confusion(confusion: NDArray[np.int64], names: list[str], path: Path) -> None:
    """(N, N) photos of the row's class that were given the column's, as shares of the row; with
    names and figures as long as they can be read."""
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    count, named = len(names), len(names) <= _NAMED
    side = min(9.0, max(4.0, 1.6 + 0.42 * count)) if named else 7.0
    with plt.rc_context({**_STYLE, "axes.grid": False}):
        figure, axes = plt.subplots(figsize=(side + 1, side), layout="constrained")
        # By the root: most mistakes are a few per cent, and white if the scale is linear.
        image = axes.imshow(100 * shares, cmap="Blues", norm=PowerNorm(0.5, 0, 100))
        axes.set(xlabel="taken for", ylabel="class")
        figure.suptitle("what each class was taken for, % of its photos")
        figure.colorbar(image, shrink=0.7)
        if named:
            shown = [name if len(name) <= 22 else f"{name[:21]}\N{HORIZONTAL ELLIPSIS}"
                     for name in names]  # fmt: skip
            axes.set_xticks(range(count), shown, rotation=90)
            axes.set_yticks(range(count), shown)
        if count <= 15:
            for (row, column), share in np.ndenumerate(shares):
                if confusion[row, column]:
                    colour = "white" if share > 0.36 else "black"
                    text = f"{100 * share:.0f}"
                    axes.text(column, row, text, ha="center", va="center", color=colour)
        _save(figure, path)


def plot_pairs(
    pairs: list[tuple[str, str, int, float]], title: str, path: Path, most: int = 20
) -> None:
    """(class, taken for, photos, share of the class's photos): a bar for each of the most
    frequent."""
    shown = sorted(pairs, key=lambda pair: (-pair[2], -pair[3], pair[:2]))[:most][::-1]
    with plt.rc_context({**_STYLE, "axes.grid": False}):
        size = (7, 1.2 + 0.26 * len(shown))
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        names = [f"{own} \N{RIGHTWARDS ARROW} {wrong}" for own, wrong, _, _ in shown]
        bars = axes.barh(range(len(shown)), [times for _, _, times, _ in shown], color="tab:red")
        axes.bar_label(bars, [f"{times}  ({share:.0%})" for _, _, times, share in shown], padding=3)
        axes.set_yticks(range(len(shown)), names)
        axes.set(xlabel="photos (and their share of the class)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.margins(x=0.15)
        figure.suptitle(title)
        _save(figure, path)


def plot_learning_rates(recipe: Recipe, path: Path) -> None:
    """The rate of each group of parameters over the epochs; not drawn where a group is frozen."""
    steps = 100 * recipe.epochs
    values = [rates(recipe, step, steps) for step in range(steps)]
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
        _groups(axes, recipe, values, np.arange(steps) / 100 + 1)
        axes.set(
            title=f"learning rates of recipe {recipe.name}", xlabel="epoch",
            xlim=(1, recipe.epochs + 1),
            yscale="linear" if recipe.schedule == "linear" else "log",
        )  # fmt: skip
        _save(figure, path)


def _groups(axes: Axes, recipe: Recipe, values: list[Rates], epochs: NDArray[np.float64]) -> None:
    """One line per distinct curve; groups with the same curve share it."""
    lines: dict[tuple[float, ...], list[str]] = {}
    for name, curve in zip(Rates._fields, zip(*values, strict=True), strict=True):
        lines.setdefault(curve, []).append(name.replace("_", " "))
    for curve, names in lines.items():
        shown = np.array([rate or np.nan for rate in curve])
        label = "all parameters" if len(names) == 4 else ", ".join(names)
        if recipe.body != 1:
            axes.plot(epochs, shown * recipe.body, label="all layers but the last", lw=1.2, ls="--")
            label = "the last layer"
        if not curve[-1] and recipe.schedule != "linear":
            label += f", frozen from epoch {epochs[np.isnan(shown)][0]:.0f}"
        inner = {"lw": 1.2, "ls": "--"} if names[0].startswith("conv1") else {"lw": 2.5}
        axes.plot(epochs, shown, label=label, **inner)
    axes.legend(frameon=False)


def filter_grid(weight: Tensor) -> NDArray[np.uint8]:
    """(N, 3, k, k) filters -> one RGB picture, 16 per row, the contrast of each stretched."""
    filters = weight.detach().cpu().float().permute(0, 2, 3, 1).numpy()
    low = filters.min((1, 2, 3), keepdims=True)
    span = np.maximum(filters.max((1, 2, 3), keepdims=True) - low, 1e-9)
    count, side, per_row = len(filters), filters.shape[1], 16
    grid = np.full((-(-count // per_row) * (side + 1) + 1, per_row * (side + 1) + 1, 3), 255)
    for i, picture in enumerate(255 * (filters - low) / span):
        y, x = 1 + i // per_row * (side + 1), 1 + i % per_row * (side + 1)
        grid[y : y + side, x : x + side] = picture.round()
    return grid.astype(np.uint8)


def plot_filters(weight: Tensor, path: Path) -> None:
    """The filters of conv1, as in figure 3 of the paper."""
    grid = np.kron(filter_grid(weight), np.ones((4, 4, 1), np.uint8))  # 4 screen pixels for one
    path.parent.mkdir(parents=True, exist_ok=True)
    plt.imsave(path, grid)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
