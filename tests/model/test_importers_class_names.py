from pathlib import Path

import pytest

from alexnet.labels import Labels
from training.checkpoint import CheckpointError
from training.importers.class_names import class_names


def test_a_file_names_a_class_a_line(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\ufeffcat\n\n  German  shepherd\r\nbird, any\n", "utf-8")
    labels = class_names(3, path)
    assert [label.synset for label in labels.rows] == ["cat", "German shepherd", "bird, any"]
    assert labels[1].name == "German shepherd"
    assert Labels.from_tsv(labels.to_tsv()) == labels


def test_the_class_list_of_a_bundle_is_read_too(tmp_path: Path) -> None:
    labels = Labels.imagenet()
    (tmp_path / "labels.tsv").write_text(labels.to_tsv())
    assert class_names(1000, tmp_path / "labels.tsv") == labels


def test_without_a_file_a_thousand_are_imagenets_and_others_are_numbered() -> None:
    assert class_names(1000, None) == Labels.imagenet()
    assert [label.name for label in class_names(3, None).rows] == ["class 0", "class 1", "class 2"]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"", "at least one class"),
        (b"cat\ncat\n", "appears twice"),
        (b"cat\ndog\n", "lists 2 classes, the weights have 3"),
        (b"index\tsynset\tnames\nno row\n", "is not index, synset, names"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    tmp_path: Path, data: bytes | None, complaint: str
) -> None:
    path = tmp_path / "names.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        class_names(3, path)
    assert str(path) in str(caught.value)
