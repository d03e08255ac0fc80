"""The classes of a finished run as a table: how many photos of each were right, and what for."""

import numpy as np
from numpy.typing import NDArray

from alexnet.labels import Labels

MOST = 20  # classes in the table: the worst
_TAKEN_FOR = 3
_WIDTH = 30


def class_table(confusion: NDArray[np.int64], labels: Labels, most: int = MOST) -> list[str]:
    """The lines of a table for people, the worst classes first; of (classes, classes) photos of the
    row's class that were given the column's."""
    photos = confusion.sum(1)
    right = np.diagonal(confusion) / np.maximum(photos, 1)
    scored = [i for i in np.argsort(right, kind="stable").tolist() if photos[i]]
    names = {i: _short(labels[i].name) for i in range(len(labels))}
    shown = scored[:most]
    width = max([len("class"), *(len(names[i]) for i in shown)])
    lines = [f"{'class':<{width}}  photos   top-1  taken for"]
    for i in shown:
        wrong = [j for j in np.argsort(-confusion[i], kind="stable").tolist() if j != i]
        taken = [f"{names[j]} {confusion[i, j]}" for j in wrong[:_TAKEN_FOR] if confusion[i, j]]
        row = f"{names[i]:<{width}}  {photos[i]:>6,}  {right[i]:>6.1%}  {', '.join(taken)}"
        lines.append(row.rstrip())
    if len(scored) > most:
        best = right[scored[most]]
        lines.append(f"and {len(scored) - most:,} more with {best:.1%} or better")
    return lines


def _short(name: str) -> str:
    return name if len(name) <= _WIDTH else f"{name[: _WIDTH - 1]}\N{HORIZONTAL ELLIPSIS}"
