import numpy as np

from alexnet.labels import Label, Labels
from training.classes import class_table

LABELS = Labels(tuple(Label(f"n{i}", f"{name}, a synonym") for i, name in enumerate(
    ("cat", "dog", "bird", "fish"))))  # fmt: skip


def test_the_worst_classes_come_first_with_what_they_were_taken_for() -> None:
    confusion = np.array([[8, 2, 0, 0], [3, 4, 2, 1], [0, 0, 5, 0], [0, 0, 0, 0]])
    assert class_table(confusion, LABELS) == [
        "class  photos   top-1  taken for",
        "dog        10   40.0%  cat 3, bird 2, fish 1",
        "cat        10   80.0%  dog 2",
        "bird        5  100.0%",
    ]


def test_many_classes_are_cut_short_and_long_names_too() -> None:
    names = [f"class {i} " + "with a long name" * 3 for i in range(30)]
    labels = Labels(tuple(Label(str(i), name) for i, name in enumerate(names)))
    lines = class_table(np.diag(np.arange(1, 31)), labels, most=4)
    assert len(lines) == 6
    assert lines[-1] == "and 26 more with 100.0% or better"
    assert all(len(line) < 80 for line in lines)
