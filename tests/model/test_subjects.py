"""The subjects of an evaluation, and the order in which their photos are read."""

import asyncio
import threading
from contextlib import closing
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from alexnet.labels import Label, Labels
from alexnet.preprocess import InvalidImage
from export.evaluation import AHEAD, _ensemble, _evaluate_subject
from export.subjects import BATCH, Subject, SubjectError, _row, open_subject
from tests.fakes import faking, flat
from training.data import PhotoFile, photo_files
from training.evaluate import Outputs

LABELS = Labels(tuple(Label(name, name) for name in ("cherry", "leaf", "sky")))


def counting_subject(refused: str) -> tuple[Subject, list[int], list[int]]:
    """A subject that answers photo `7` with 7 and refuses one; its photos and batch sizes."""
    read: list[int] = []
    batches: list[int] = []

    def number(data: bytes) -> NDArray[Any]:
        if data.decode() == refused:
            raise InvalidImage("not this one")
        read.append(int(data))
        return np.array([float(data)])

    def predict(numbers: NDArray[np.float64]) -> Outputs:
        batches.append(len(numbers))
        ahead = len(read) - sum(batches)
        assert ahead <= AHEAD, f"{ahead} photos are waiting"
        return numbers

    return Subject("counting", "", LABELS, number, predict), read, batches


def numbered_files(folder: Path, count: int) -> list[PhotoFile]:
    folder.mkdir()
    for i in range(count):
        (folder / f"{i:03}.png").write_text(str(i))
    return photo_files([folder])


def test_photos_are_read_a_few_batches_ahead_and_predicted_in_order(tmp_path: Path) -> None:
    count = AHEAD + 3 * BATCH + 5
    subject, read, batches = counting_subject(refused="100")
    answers = _evaluate_subject(subject, numbered_files(tmp_path / "photos", count))
    assert sorted(read) == [i for i in range(count) if i != 100]
    assert answers.probabilities[:, 0].tolist() == [i for i in range(count) if i != 100]
    assert np.flatnonzero(~answers.good).tolist() == [100]
    assert answers.failures == [f"{tmp_path / 'photos' / '100.png'}: not this one"]
    assert batches == [BATCH] * 6 + [4]


def test_the_ensemble_is_of_the_photos_that_every_subject_could_read(tmp_path: Path) -> None:
    files = numbered_files(tmp_path / "photos", 5)
    first, second = (_evaluate_subject(counting_subject(refused)[0], files) for refused in "13")
    ensemble = _ensemble([first, second])
    assert ensemble.good.tolist() == [True, False, True, False, True]
    assert ensemble.probabilities[:, 0].tolist() == [0, 2, 4]
    alone = replace(second, good=~ensemble.good)
    with pytest.raises(ValueError, match="no photo that every subject could read"):
        _ensemble([ensemble, alone])


async def test_a_server_that_changes_its_model_ends_the_evaluation() -> None:
    async with faking() as fake:
        subject = await asyncio.to_thread(open_subject, fake.url)
        with closing(subject):
            await asyncio.to_thread(subject.read, flat(60))
            model = fake.pipeline.model
            newer = replace(model.bundle.manifest.model, version="2")
            manifest = replace(model.bundle.manifest, model=newer)
            fake.pipeline.model = replace(model, bundle=replace(model.bundle, manifest=manifest))
            with pytest.raises(SubjectError, match="serves tiny 2 now, tiny 1 before"):
                await asyncio.to_thread(subject.read, flat(60))


@pytest.mark.parametrize(
    ("found", "complaint"),
    [("{}", "is no AlexNet server: KeyError"), ("<html>", "status 200 and no JSON")],
)
def test_another_program_at_the_address_is_refused(
    tmp_path: Path, found: str, complaint: str
) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "models").write_text(found)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as other:
        threading.Thread(target=other.serve_forever).start()
        try:
            with pytest.raises(SubjectError, match=complaint):
                open_subject(f"http://127.0.0.1:{other.server_port}")
        finally:
            other.shutdown()


def test_probabilities_rounded_to_zero_keep_their_order() -> None:
    ranked = [(1, 1.0), (2, 0.0), (3, 0.0), (0, 0.0)]
    row = _row([{"index": i, "probability": p} for i, p in ranked])
    assert np.argsort(-row).tolist() == [1, 2, 3, 0]
    np.testing.assert_allclose(row, [0, 1, 0, 0], atol=1e-8)
