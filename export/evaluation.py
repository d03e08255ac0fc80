"""The answers of subjects to photos whose class is known, and their scores."""

import argparse
import logging
import zipfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from alexnet.labels import Labels
from alexnet.preprocess import InvalidImage
from export.report import Report, SubjectScore
from export.subjects import BATCH, Subject, open_subject
from training.evaluate import Outputs, average, score, score_classes
from training.photos import PhotoFile, photo_files

log = logging.getLogger(__name__)
_Read = NDArray[Any] | str  # the result of Subject.read, or why the photo could not be read

AHEAD = 3 * BATCH  # photos decoded in advance, at most; squares for ten views take 38 MB


@dataclass(frozen=True)
class Answers:
    """The results of one subject."""

    good: NDArray[np.bool_]
    """(photos,): whether each could be read."""
    probabilities: Outputs
    """(good photos, classes)"""
    failures: list[str]


def evaluate(arguments: argparse.Namespace) -> None:
    """Raises ValueError, OSError."""
    files = photo_files(arguments.photos)
    chosen = _filter_classes(files, arguments.classes)
    with ExitStack() as stack:
        subjects = [
            stack.enter_context(closing(_open(name, arguments))) for name in arguments.subjects
        ]
        labels = _same_labels(subjects)
        known = _filter_known(chosen, labels, arguments.known_only)
        among = _among(arguments.among, labels)
        found = [_evaluate_subject(subject, known) for subject in subjects]
    answers = [replace(a, probabilities=a.probabilities * among) for a in found]
    for failure in dict.fromkeys(f for a in answers for f in a.failures):
        log.warning("skipped %s", failure)
    targets = np.array([labels.index[f.group] for f in known], np.int64)
    scores = [
        replace(_score(s.name, s.model, a, targets), agreement=_agreement(a, answers[0]))
        for s, a in zip(subjects, answers, strict=True)
    ]
    if len(scores) > 1:
        together = _ensemble(answers)
        ensemble = _score("ensemble", f"mean of {len(scores)}", together, targets)
        scores.append(replace(ensemble, agreement=_agreement(together, answers[0])))
    report = Report(
        photos=arguments.photos,
        views=arguments.views,
        classes=arguments.classes,
        left_out=len(files) - len(chosen),
        unknown=len(chosen) - len(known),
        labels=labels,
        scores=scores,
    )
    if arguments.output:
        report.write(arguments.output)
    print(report.to_json() if arguments.json else report.to_text(arguments.worst))


def _open(name: str, arguments: argparse.Namespace) -> Subject:
    return open_subject(
        name, arguments.views, class_order=arguments.class_order, mean=arguments.mean
    )


def _filter_classes(files: list[PhotoFile], source: Path | None) -> list[PhotoFile]:
    """`source`: photos, or a text file with a class at the start of each line."""
    if source is None:
        return files
    classes = _classes(source)
    chosen = [file for file in files if file.group in classes]
    if not chosen:
        raise ValueError(f"none of the photos is of a class in {source}")
    return chosen


def _classes(source: Path) -> set[str]:
    if source.is_dir() or zipfile.is_zipfile(source):
        return {file.group for file in photo_files([source])}
    lines = source.read_text(encoding="utf-8").splitlines()
    return {line.split()[0] for line in lines if line.strip()}


def _among(source: Path | None, labels: Labels) -> NDArray[np.bool_]:
    """(classes,): whether each may be answered."""
    if source is None:
        return np.ones(len(labels), bool)
    classes = _classes(source)
    among = np.array([row.synset in classes for row in labels.rows])
    if not among.any():
        raise ValueError(f"the model has none of the classes in {source}")
    return among


def _same_labels(subjects: list[Subject]) -> Labels:
    first = subjects[0]
    for other in subjects[1:]:
        if list(other.labels.index) != list(first.labels.index):
            raise ValueError(
                f"{first.name} and {other.name} do not have the same classes in the same order, "
                "so nothing can be averaged: evaluate them one at a time"
            )
    return first.labels


def _filter_known(files: list[PhotoFile], labels: Labels, known_only: bool) -> list[PhotoFile]:
    known = [file for file in files if file.group in labels.index]
    unknown = {file.group for file in files} - labels.index.keys()
    if unknown and not known_only:
        raise ValueError(
            f"{len(files) - len(known)} photos are of {len(unknown)} classes that the model does "
            f"not have, such as {min(unknown)!r}: --known-only leaves them out"
        )
    if not known:
        raise ValueError("none of the photos is of a class that the model has")
    return known


def _evaluate_subject(subject: Subject, files: list[PhotoFile]) -> Answers:
    """Photos are read in threads, only a few batches in advance."""

    def read(file: PhotoFile) -> _Read:
        try:
            return subject.read(file.read())
        except (InvalidImage, OSError, zipfile.BadZipFile, zlib.error) as error:
            return f"{file.name}: {error}"

    good = np.zeros(len(files), bool)
    batch: list[NDArray[Any]] = []
    outputs: list[Outputs] = []
    failures: list[str] = []
    pool = ThreadPoolExecutor()
    try:
        photos = _in_order(pool.submit(read, file) for file in files)
        bar = tqdm(photos, subject.name, len(files), unit=" photos", leave=False, disable=None)
        for i, photo in enumerate(bar):
            if isinstance(photo, str):
                failures.append(photo)
                continue
            good[i] = True
            batch.append(photo)
            if len(batch) == BATCH:
                outputs.append(subject.predict(np.stack(batch)))
                batch.clear()
        if batch:
            outputs.append(subject.predict(np.stack(batch)))
    finally:
        pool.shutdown(cancel_futures=True)
    if not outputs:
        raise ValueError(f"none of the {len(files)} photos could be read; {failures[0]}")
    return Answers(good, np.concatenate(outputs), failures)


def _in_order(reading: Iterable[Future[_Read]]) -> Iterator[_Read]:
    waiting: deque[Future[_Read]] = deque()
    for future in reading:
        waiting.append(future)
        if len(waiting) == AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _ensemble(answers: list[Answers]) -> Answers:
    """The mean of all subjects, on the photos that each of them could read."""
    good = np.logical_and.reduce([a.good for a in answers])
    if not good.any():
        raise ValueError("there is no photo that every subject could read")
    return Answers(good, average([a.probabilities[good[a.good]] for a in answers]), [])


def _agreement(answers: Answers, first: Answers) -> float:
    """On which part of the photos that both could read the first class is the same."""
    both = answers.good & first.good
    ours, theirs = (a.probabilities[both[a.good]].argmax(1) for a in (answers, first))
    return float(np.mean(ours == theirs)) if both.any() else 0.0


def _score(subject: str, model: str, answers: Answers, targets: NDArray[np.int64]) -> SubjectScore:
    good, outputs = answers.good, answers.probabilities
    own = targets[good]
    failed = int(np.sum(~good))
    return SubjectScore(subject, model, failed, score(outputs, own), score_classes(outputs, own))
