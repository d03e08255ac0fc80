from pathlib import Path

import pytest

from alexnet.labels import Labels
from training.checkpoint import CheckpointError
from training.importers.class_order import class_order

LABELS = Labels.from_tsv("index\tsynset\tnames\n0\tn1\tone\n1\tn2\ttwo\n2\tn3\tthree\n")


@pytest.mark.parametrize(
    "text",
    ["n3\nn1\nn2\n", "n3\nn1\nn2", "\n\n  n3 three\r\n\r\nn1\tn2 n3\n\nn2\n\n", "\ufeffn3\nn1\nn2"],
)
def test_each_label_gets_its_line_in_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_text(text, "utf-8")
    assert class_order(path, LABELS) == [1, 2, 0]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"", "lists 0 classes, expected 3"),
        (b"n1\nn2\n", "lists 2 classes, expected 3"),
        (b"n1\nn2\nn3\nn4\n", "lists 4 classes, expected 3"),
        (b"n1\nn2\nn1\n", "lists n1 twice"),
        (b"n1\nn2\nn4\n", "lists n4, which is no class"),
        (b"n1\nn2\n" + b"x" * 5000, "lists x"),
    ],
)
def test_a_file_that_is_no_permutation_is_refused(
    tmp_path: Path, data: bytes | None, complaint: str
) -> None:
    path = tmp_path / "classes.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        class_order(path, LABELS)
    message = str(caught.value)
    assert str(path) in message
    assert complaint in message
    assert len(message) < 400
