"""`alexnet-evaluate` on weights, a bundle and servers, in this process."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from alexnet.bundle import Bundle
from alexnet.labels import Label, Labels
from alexnet.preprocess import preprocess
from alexnet.spec import Preprocess
from export.parity import predictor
from export.subjects import open_subject
from tests.fakes import faking
from tests.model.evaluation import Evaluate, greys, in_thread
from tests.paths import STARTER
from tests.photos import class_folders, jpeg
from tests.processes import ServerProcess
from training.checkpoint import Checkpoint
from training.evaluate import Outputs
from training.network import AlexNet

CLASSES = ("cherry", "leaf", "sky")
LABELS = Labels(tuple(Label(name, f"{name}, a {name}") for name in CLASSES))


@pytest.fixture
def weights(tmp_path: Path, narrow: None) -> Callable[..., Path]:
    """A file of random weights."""

    def weights(seed: int, labels: Labels = LABELS, **facts: object) -> Path:
        torch.manual_seed(seed)
        state = AlexNet(len(labels), dropout=0.0).state_dict()
        # A larger last layer than torch's, so that different hues get different classes.
        tensors = {f"network.{k}": v * 30 if "classifier.6" in k else v for k, v in state.items()}
        facts |= {"arch": "alexnet", "mean": [128] * 3, "std": [64] * 3, "commit": "none"}
        facts |= {"labels": labels.to_tsv(), "known": [0], "lineage": ["random"]}
        Checkpoint(tensors, facts).save(tmp_path / f"{seed}.safetensors")
        return tmp_path / f"{seed}.safetensors"

    return weights


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    class_folders(tmp_path / "photos", CLASSES, each=4)
    return tmp_path / "photos"


def probabilities(path: Path, photos: Path, views: int = 1) -> Outputs:
    return np.concatenate([predict(path, file, views) for file in sorted(photos.rglob("*.png"))])


def predict(path: Path, file: Path, views: int) -> Outputs:
    subject = open_subject(str(path), views)
    return subject.predict(np.stack([subject.read(file.read_bytes())]))


@pytest.fixture(scope="module")
def starter() -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    bundle = Bundle.open(STARTER)
    return predictor(bundle.files[bundle.manifest.artifacts[0].file])


@pytest.mark.process
def test_a_bundle_and_the_server_that_serves_it_have_exactly_the_same_scores(
    server: ServerProcess, starter: Any, tmp_path: Path, evaluate: Evaluate
) -> None:
    labels, spec = Labels.imagenet(), Bundle.open(STARTER).manifest.preprocess
    for i, place in enumerate((0, 0, 0, 0, 1, 3, 4, 5, 9, 999)):  # ranks of the true class
        photo = jpeg(300, 200, seed=i)
        order = np.argsort(-starter(preprocess(photo, spec).crop[None])[0])
        folder = tmp_path / labels[int(order[place])].synset
        folder.mkdir(exist_ok=True)
        (folder / f"{i}.jpg").write_bytes(photo)
    report = json.loads(evaluate(f"{STARTER}:int8", server.http, "--photos", tmp_path, "--json"))
    bundle, served, ensemble = report["scores"]
    assert (bundle["photos"], bundle["top1"], bundle["top5"]) == (10, 0.4, 0.7)
    assert bundle["top1_standard_error"] == pytest.approx((0.4 * 0.6 / 10) ** 0.5, abs=1e-6)
    assert bundle["model"] == served["model"]
    own = {"subject", "name", "taken_for"}
    assert {k: v for k, v in served.items() if k not in own} == {
        k: v for k, v in bundle.items() if k not in own
    }
    assert (ensemble["top1"], ensemble["top5"]) == (0.4, 0.7)


def test_scores_of_weights_match_their_probabilities(
    weights: Callable[..., Path], photos: Path, evaluate: Evaluate
) -> None:
    paths = [weights(seed) for seed in (1, 2)]
    members = [probabilities(path, photos) for path in paths]
    assert len({tuple(p.argmax(1)) for p in members}) > 1, "the networks agree on all photos"
    both: list[Outputs] = [*members, (members[0] + members[1]) / 2]
    expected = [float(np.mean(p.argmax(1) == np.repeat(range(3), 4))) for p in both]
    report = json.loads(evaluate(*paths, "--photos", photos, "--json"))
    assert [s["top1"] for s in report["scores"]] == pytest.approx(expected, abs=1e-6)
    assert [s["subject"] for s in report["scores"]] == [*map(str, paths), "ensemble"]
    assert [c["synset"] for c in report["scores"][0]["classes"]] == list(CLASSES)


def test_among_classes_only_these_are_answered(
    weights: Callable[..., Path], photos: Path, evaluate: Evaluate, tmp_path: Path
) -> None:
    path, among = weights(1), tmp_path / "among.txt"
    among.write_text("cherry\nleaf\n")
    outputs = probabilities(path, photos)
    assert (outputs.argmax(1) == 2).any(), "the network answers none of the photos with sky"
    outputs[:, 2] = 0
    report = json.loads(evaluate(path, "--photos", photos, "--among", among, "--json"))
    top1 = np.mean(outputs.argmax(1) == np.repeat(range(3), 4))
    assert report["scores"][0]["top1"] == pytest.approx(top1, abs=1e-6)
    assert all("sky" not in c["taken_for"] for c in report["scores"][0]["classes"])
    among.write_text("rose\n")
    with pytest.raises(SystemExit, match="the model has none of the classes in"):
        evaluate(path, "--photos", photos, "--among", among)


def test_ten_views_are_the_mean_probability_of_ten_crops_of_the_square(
    weights: Callable[..., Path], photos: Path, evaluate: Evaluate
) -> None:
    path, file = weights(1), photos / "leaf" / "leaf_0.png"
    square = preprocess(file.read_bytes(), Preprocess(crop=256)).crop
    crops = [
        square[y : y + 224, x : x + 224] for y, x in [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]
    ]
    one = open_subject(str(path))
    assert one.labels == LABELS
    each = one.predict(np.stack([*crops, *(crop[:, ::-1] for crop in crops)]))
    np.testing.assert_allclose(predict(path, file, 10)[0], each.mean(0), atol=1e-5)
    np.testing.assert_array_equal(one.read(file.read_bytes()), crops[4])
    report = json.loads(evaluate(path, "--photos", photos, "--views", 10, "--json"))
    top1 = np.mean(probabilities(path, photos, 10).argmax(1) == np.repeat(range(3), 4))
    assert report["views"] == 10
    assert report["scores"][0]["top1"] == pytest.approx(top1, abs=1e-6)


def test_weights_get_photos_at_their_own_crop(weights: Callable[..., Path]) -> None:
    path, photo = str(weights(1, crop=128)), jpeg(seed=3)
    for views, side in ((1, 128), (10, 146)):
        subject = open_subject(path, views)
        expected = preprocess(photo, Preprocess(146, side)).crop
        np.testing.assert_array_equal(subject.read(photo), expected)
        assert subject.predict(expected.copy()[None]).shape == (1, len(LABELS))


def test_a_class_order_is_refused_for_weights_with_a_known_order(
    weights: Callable[..., Path], photos: Path, evaluate: Evaluate
) -> None:
    with pytest.raises(SystemExit, match="cuda-convnet"):
        evaluate(weights(1), "--photos", photos, "--class-order", "order.txt")


def test_subjects_of_other_classes_cannot_be_averaged(
    weights: Callable[..., Path], photos: Path, evaluate: Evaluate
) -> None:
    other = weights(2, Labels(tuple(reversed(LABELS.rows))))
    with pytest.raises(SystemExit, match="do not have the same classes in the same order"):
        evaluate(weights(1), other, "--photos", photos)


def single_spaced(line: str) -> str:
    return " ".join(line.split())


async def test_the_report_as_text_json_and_tsv(tmp_path: Path, evaluate: Evaluate) -> None:
    photos = greys(tmp_path / "photos", s4=[110, 110], s8=[210, 210, 80, 130, 80])
    async with faking() as fake:
        text = await in_thread(
            evaluate, fake.url, "--photos", photos, "--output", tmp_path / "report"
        )
    lines = text.splitlines()
    assert single_spaced(lines[0]) == "subject photos failed top-1 +- s.e. top-5 model"
    assert single_spaced(lines[1]) == f"{fake.url} 7 0 57.1% 18.7% 57.1% tiny 1 int8"
    assert lines[3] == f"1 view of {photos}"
    assert lines[5] == f"{fake.url}: 2 of 2 classes, the worst first"
    assert single_spaced(lines[7]) == "s8 class 8 5 40.0% 40.0% class 3 2, class 5 1"
    assert single_spaced(lines[8]) == "s4 class 4 2 100.0% 100.0%"
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    (score,) = report["scores"]
    assert score["classes"][1] == {
        "synset": "s8", "name": "class 8", "photos": 5, "top1": 0.4, "top5": 0.4,
        "taken_for": {"s3": 2, "s5": 1},
    }  # fmt: skip
    table = (tmp_path / "report" / "classes.tsv").read_text()
    assert [line.split("\t") for line in table.splitlines()] == [
        ["subject", "synset", "name", "photos", "top1", "top5", "taken_for", "times"],
        [fake.url, "s4", "class 4", "2", "1.000000", "1.000000", "", "0"],
        [fake.url, "s8", "class 8", "5", "0.400000", "0.400000", "s3", "2"],
    ]


async def test_only_the_worst_classes_are_shown_and_all_are_in_the_json(
    tmp_path: Path, evaluate: Evaluate
) -> None:
    photos = greys(tmp_path, s2=[60], s3=[0], s4=[110])
    async with faking() as fake:
        one = await in_thread(evaluate, fake.url, "--photos", photos, "--worst", 1)
        none = await in_thread(evaluate, fake.url, "--photos", photos, "--worst", 0)
        report = json.loads(await in_thread(evaluate, fake.url, "--photos", photos, "--json"))
    assert [line.split()[0] for line in one.splitlines()[6:]] == ["class", "s3"]
    assert len(none.splitlines()) == 4
    assert [c["synset"] for c in report["scores"][0]["classes"]] == ["s2", "s3", "s4"]


async def test_photos_of_the_classes_of_another_source(tmp_path: Path, evaluate: Evaluate) -> None:
    photos = greys(tmp_path / "photos", s2=[60, 60], s3=[0], s4=[110])
    with zipfile.ZipFile(tmp_path / "val.zip", "w") as archive:
        archive.writestr("val/s2/a.jpg", b"")
        archive.writestr("val/s7/b.jpg", b"")
    (tmp_path / "classes.txt").write_text("s2 shade two\n\ns7 shade seven\n")
    async with faking() as fake:
        for source in (tmp_path / "val.zip", tmp_path / "classes.txt"):
            text = await in_thread(evaluate, fake.url, "--photos", photos, "--classes", source)
            assert text.splitlines()[1].split()[1:4] == ["2", "0", "100.0%"]
            assert f"left out: 2 of 4 photos, of classes that are not in {source}" in text
        (tmp_path / "classes.txt").write_text("s9")
        last = await in_thread(
            evaluate, fake.url, "--photos", photos, "--classes", tmp_path / "classes.txt"
        )
    assert last.startswith("alexnet-evaluate: none of the photos is of a class in ")


async def test_photos_of_unknown_classes_are_an_error_or_left_out(
    tmp_path: Path, evaluate: Evaluate
) -> None:
    photos = greys(tmp_path, s2=[60, 60], teapot=[0, 0, 0], zebra=[1])
    async with faking() as fake:
        last = await in_thread(evaluate, fake.url, "--photos", photos)
        text = await in_thread(evaluate, fake.url, "--photos", photos, "--known-only")
        none = await in_thread(evaluate, fake.url, "--photos", photos / "zebra", "--known-only")
    assert last == (
        "alexnet-evaluate: 4 photos are of 2 classes that the model does not have, "
        "such as 'teapot': --known-only leaves them out"
    )
    assert text.splitlines()[1].split()[1:4] == ["2", "0", "100.0%"]
    assert "left out: 4 of 6 photos, of classes that the model does not have" in text
    assert none.endswith("none of the photos is of a class that the model has")


async def test_photos_that_cannot_be_read_are_counted_and_named_but_not_scored(
    tmp_path: Path, evaluate: Evaluate, caplog: pytest.LogCaptureFixture
) -> None:
    photos = greys(tmp_path, s2=[60, 60], s3=[0])
    (photos / "s3" / "text.png").write_text("no photo")
    (photos / "s3" / "huge.png").write_bytes(bytes(3 << 20))  # the fake takes 1 MiB
    async with faking() as fake:
        text = await in_thread(evaluate, fake.url, fake.url, "--photos", photos)
        (photos / "s2" / "0.png").write_bytes(b"")
        (photos / "s2" / "1.png").write_bytes(b"")
        (photos / "s3" / "0.png").write_bytes(b"")
        last = await in_thread(evaluate, fake.url, "--photos", photos)
    for row in text.splitlines()[1:4]:
        assert row.split()[1:4] == ["3", "2", "66.7%"]
    warnings = [r.getMessage() for r in caplog.records if r.name == "export.evaluation"]
    assert len(warnings) == 2, "each is logged once for all subjects"
    assert warnings[0].startswith(f"skipped {photos / 's3' / 'huge.png'}: ")
    assert "bytes" in warnings[0]
    assert warnings[1].startswith(f"skipped {photos / 's3' / 'text.png'}: the bytes are not")
    assert last.startswith("alexnet-evaluate: none of the 5 photos could be read; ")
