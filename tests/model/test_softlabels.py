from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet.labels import Label, Labels
from training.checkpoint import Checkpoint, CheckpointError
from training.softlabels import Origin, SoftLabels, best

NAMES = ("a", "b", "c", "d", "e")
LABELS = Labels(tuple(Label(name, name) for name in NAMES))
ORIGIN = Origin("tiny", "t" * 64, LABELS.to_tsv(), "p" * 64, 3, 2, 7, (0.5, 1.0))
PROBABILITIES = np.array(
    [
        [[0.6, 0.1, 0.2, 0.1, 0.0], [0.4, 0.35, 0.15, 0.1, 0.0]],
        [[0.0, 0.3, 0.3, 0.4, 0.0], [0.0, 0.45, 0.3, 0.25, 0.0]],
        [[0.0, 0.0, 0.05, 0.05, 0.9], [0.2, 0.2, 0.2, 0.1, 0.3]],
    ],
    np.float32,
)


def soft_labels(k: int = 3) -> SoftLabels:
    columns = best(PROBABILITIES.reshape(6, 5), k)
    return SoftLabels.of(ORIGIN, *(column.reshape(3, 2, *column.shape[1:]) for column in columns))


def test_the_best_classes_of_an_answer_are_kept_and_the_rest_as_a_sum() -> None:
    classes, shares, rest = best(PROBABILITIES.reshape(6, 5), 3)
    assert (classes.dtype, shares.dtype, rest.dtype) == (torch.int16, torch.float16, torch.float16)
    assert classes[1].tolist() == [0, 1, 2]
    assert shares[1].tolist() == pytest.approx([0.4, 0.35, 0.15], abs=5e-4)
    assert rest.tolist() == pytest.approx([0.1, 0.1, 0.0, 0.0, 0.0, 0.3], abs=5e-4)
    assert best(PROBABILITIES[0], 9)[0].shape == (2, 5)


def test_a_small_rest_is_kept_more_finely_than_a_difference_would_be() -> None:
    answer = np.array([[1 - 3e-5, 2e-5, 1e-5]], np.float32)
    assert best(answer, 1)[2].item() == pytest.approx(3e-5, rel=0.01)


def test_answers_are_read_by_photo_and_view(tmp_path: Path) -> None:
    soft_labels().save(tmp_path / "labels")
    labels = SoftLabels.load(tmp_path / "labels")
    assert labels.origin == ORIGIN
    answers = labels.answers(torch.tensor([2, 0]), torch.tensor([0, 1]))
    assert answers.classes.dtype == torch.int64
    assert answers.classes[0, 0] == 4
    assert answers.classes[1].tolist() == [0, 1, 2]
    assert answers.shares[0, 0].item() == pytest.approx(0.9, abs=5e-4)
    assert answers.rest.tolist() == pytest.approx([0.0, 0.1], abs=5e-4)
    assert answers.known.tolist() == [True] * 5


def test_classes_are_translated_to_those_of_the_network() -> None:
    network = Labels(tuple(Label(name, name) for name in ("e", "x", "d", "c", "b", "a")))
    labels = soft_labels().among(network)
    answers = labels.answers(torch.tensor([0]), torch.tensor([1]))
    assert answers.classes.tolist() == [[5, 4, 3]]
    assert answers.known.tolist() == [True, False, True, True, True, True]
    assert labels.first().tolist() == [5, 4, 0]
    assert labels.named() == [0, 5]


def test_a_photos_class_is_the_one_that_the_teacher_is_most_sure_of() -> None:
    assert soft_labels().first().tolist() == [0, 1, 4]
    assert soft_labels().named() == [0, 4]


def test_labels_are_mapped_from_the_file(tmp_path: Path) -> None:
    soft_labels().save(tmp_path / "labels.of")
    labels = SoftLabels.load(tmp_path / "labels.of")
    assert str(tmp_path / "labels.of") in Path("/proc/self/maps").read_text()
    assert len(labels) == 3


def test_330000_photos_with_two_views_and_ten_classes_stay_below_50_mb(tmp_path: Path) -> None:
    count = 330
    origin = replace(ORIGIN, photos=count, classes=Labels.imagenet().to_tsv())
    rng = np.random.default_rng(0)
    columns = best((rng.random((2 * count, 1000)) / 500).astype(np.float32), 10)
    shaped = (column.reshape(count, 2, *column.shape[1:]) for column in columns)
    SoftLabels.of(origin, *shaped).save(tmp_path / "labels")
    small = SoftLabels.load(tmp_path / "labels")
    per_photo = sum(t.nbytes for t in (small.classes, small.shares, small.rest)) / count
    header = (tmp_path / "labels").stat().st_size - count * per_photo
    assert 330_000 * per_photo + header < 30e6


@pytest.mark.parametrize("missing", ["origin", "rest", "shape"])
def test_a_file_without_soft_labels_is_refused(tmp_path: Path, missing: str) -> None:
    labels = soft_labels()
    tensors = {"classes": labels.classes, "shares": labels.shares, "rest": labels.rest}
    facts = {"origin": ORIGIN.to_json()}
    if missing == "rest":
        del tensors["rest"]
    if missing == "origin":
        del facts["origin"]["seed"]
    if missing == "shape":
        tensors["rest"] = labels.rest[:2]
    Checkpoint(tensors, facts).save(tmp_path / "labels")
    with pytest.raises(CheckpointError, match="holds no soft labels"):
        SoftLabels.load(tmp_path / "labels")


def test_the_hash_of_labels_is_of_their_origin() -> None:
    assert soft_labels().sha256 == soft_labels(k=2).sha256
    assert replace(soft_labels(), origin=replace(ORIGIN, seed=8)).sha256 != soft_labels().sha256
