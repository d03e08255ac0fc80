"""`alexnet-evaluate` on weights, a bundle and servers, in this process."""

import asyncio
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from alexnet.bundle import Bundle
from alexnet.labels import Label, Labels
from alexnet.preprocess import InvalidImage, preprocess
from alexnet.spec import Preprocess
from export.evaluate import AHEAD, _answers, _together, main
from export.parity import predictor
from export.subjects import BATCH, Subject, SubjectError, _row, open_subject
from tests.conftest import STARTER, ServerProcess
from tests.fakes import faking, flat, tiny_bundle
from tests.photos import class_folders, jpeg
from training.checkpoint import Checkpoint
from training.data import PhotoFile, photo_files
from training.evaluate import Outputs
from training.network import AlexNet

CLASSES = ("cherry", "leaf", "sky")
LABELS = Labels(tuple(Label(name, f"{name}, a {name}") for name in CLASSES))

Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command with these arguments -> what it prints; raises SystemExit if it fails."""

    def run(*arguments: object) -> str:
        monkeypatch.setattr("sys.argv", ["alexnet-evaluate", *map(str, arguments)])
        main()
        return capsys.readouterr().out

    return run


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """64 hidden units instead of 4096: too few to be worth a second thread."""
    monkeypatch.setattr("training.network.HIDDEN", 64)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def weights(tmp_path: Path, narrow: None) -> Callable[..., Path]:
    """A file of random weights."""

    def weights(seed: int, labels: Labels = LABELS, **facts: object) -> Path:
        torch.manual_seed(seed)
        state = AlexNet(len(labels), dropout=0.0).state_dict()
        # Larger weights than torch's at the end, so that photos of other hues get other classes.
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


def greys(folder: Path, **photos: list[int]) -> Path:
    """Grey photos in class folders; the fake server takes a grey for class `s{grey // 25}`."""
    for name, values in photos.items():
        (folder / name).mkdir(parents=True)
        for i, value in enumerate(values):
            (folder / name / f"{i}.png").write_bytes(flat(value))
    return folder


def probabilities(path: Path, photos: Path, views: int = 1) -> Outputs:
    return np.concatenate([answer(path, file, views) for file in sorted(photos.rglob("*.png"))])


def answer(path: Path, file: Path, views: int) -> Outputs:
    subject = open_subject(str(path), views)
    return subject.predict(np.stack([subject.read(file.read_bytes())]))


@pytest.fixture(scope="module")
def starter() -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    bundle = Bundle.open(STARTER)
    return predictor(bundle.files[bundle.manifest.artifacts[0].file])


def test_a_bundle_and_the_server_that_serves_it_have_exactly_the_same_scores(
    server: ServerProcess, starter: Any, tmp_path: Path, run: Run
) -> None:
    labels, spec = Labels.imagenet(), Preprocess(tile=72)
    for i, place in enumerate((0, 0, 0, 0, 1, 3, 4, 5, 9, 999)):  # its first answer, its second..
        photo = jpeg(300, 200, seed=i)
        order = np.argsort(-starter(preprocess(photo, spec).crop[None])[0])
        folder = tmp_path / labels[int(order[place])].synset
        folder.mkdir(exist_ok=True)
        (folder / f"{i}.jpg").write_bytes(photo)
    report = json.loads(run(f"{STARTER}:int8", server.http, "--photos", tmp_path, "--json"))
    bundle, served, ensemble = report["scores"]
    assert (bundle["photos"], bundle["top1"], bundle["top5"]) == (10, 0.4, 0.7)
    assert bundle["top1_standard_error"] == pytest.approx((0.4 * 0.6 / 10) ** 0.5, abs=1e-6)
    assert bundle["model"] == served["model"]
    own = {"subject", "name", "taken_for"}
    assert {k: v for k, v in served.items() if k not in own} == {
        k: v for k, v in bundle.items() if k not in own
    }
    assert (ensemble["top1"], ensemble["top5"]) == (0.4, 0.7)


def test_weights_are_scored_as_their_probabilities_say(
    weights: Callable[..., Path], photos: Path, run: Run
) -> None:
    paths = [weights(seed) for seed in (1, 2)]
    members = [probabilities(path, photos) for path in paths]
    assert len({tuple(p.argmax(1)) for p in members}) > 1, "the networks agree on all photos"
    both: list[Outputs] = [*members, (members[0] + members[1]) / 2]
    expected = [float(np.mean(p.argmax(1) == np.repeat(range(3), 4))) for p in both]
    report = json.loads(run(*paths, "--photos", photos, "--json"))
    assert [s["top1"] for s in report["scores"]] == pytest.approx(expected, abs=1e-6)
    assert [s["subject"] for s in report["scores"]] == [*map(str, paths), "ensemble"]
    assert [c["synset"] for c in report["scores"][0]["classes"]] == list(CLASSES)


def test_ten_views_are_the_mean_probability_of_ten_crops_of_the_square(
    weights: Callable[..., Path], photos: Path, run: Run
) -> None:
    path, file = weights(1), photos / "leaf" / "leaf_0.png"
    square = preprocess(file.read_bytes(), Preprocess(crop=256)).crop
    crops = [
        square[y : y + 224, x : x + 224] for y, x in [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]
    ]
    one = open_subject(str(path))
    assert one.labels == LABELS
    each = one.predict(np.stack([*crops, *(crop[:, ::-1] for crop in crops)]))
    np.testing.assert_allclose(answer(path, file, 10)[0], each.mean(0), atol=1e-5)
    np.testing.assert_array_equal(one.read(file.read_bytes()), crops[4])
    report = json.loads(run(path, "--photos", photos, "--views", 10, "--json"))
    top1 = np.mean(probabilities(path, photos, 10).argmax(1) == np.repeat(range(3), 4))
    assert report["views"] == 10
    assert report["scores"][0]["top1"] == pytest.approx(top1, abs=1e-6)


def test_weights_see_photos_at_their_own_crop_and_through_the_tile_asked_for(
    weights: Callable[..., Path],
) -> None:
    path, photo = str(weights(1, crop=227)), jpeg(seed=3)
    for tile in (None, 48):
        for views, side in ((1, 227), (10, 256)):
            subject = open_subject(path, views, tile=tile)
            expected = preprocess(photo, Preprocess(crop=side, tile=tile)).crop
            np.testing.assert_array_equal(subject.read(photo), expected)
            assert subject.predict(expected.copy()[None]).shape == (1, len(LABELS))


def test_a_class_order_is_for_weights_that_do_not_say_it(
    weights: Callable[..., Path], photos: Path, run: Run
) -> None:
    with pytest.raises(SystemExit, match="cuda-convnet"):
        run(weights(1), "--photos", photos, "--class-order", "order.txt")


def test_subjects_of_other_classes_cannot_be_averaged(
    weights: Callable[..., Path], photos: Path, run: Run
) -> None:
    other = weights(2, Labels(tuple(reversed(LABELS.rows))))
    with pytest.raises(SystemExit, match="do not have the same classes in the same order"):
        run(weights(1), other, "--photos", photos)


async def served(run: Run, *arguments: object) -> str:
    """What the command prints, or its last words; meanwhile this thread's loop serves."""

    def call() -> str:
        try:
            return run(*arguments)
        except SystemExit as end:
            return str(end.code)

    return await asyncio.to_thread(call)


def words(line: str) -> str:
    return " ".join(line.split())


async def test_the_report_for_people_and_programs(tmp_path: Path, run: Run) -> None:
    photos = greys(tmp_path / "photos", s4=[110, 110], s8=[210, 210, 80, 130, 80])
    async with faking() as fake:
        text = await served(run, fake.url, "--photos", photos, "--output", tmp_path / "report")
    lines = text.splitlines()
    assert words(lines[0]) == "subject photos failed top-1 +- s.e. top-5 model"
    assert words(lines[1]) == f"{fake.url} 7 0 57.1% 18.7% 57.1% tiny 1 int8"
    assert lines[3] == f"1 view of {photos}"
    assert lines[5] == f"{fake.url}: 2 of 2 classes, the worst first"
    assert words(lines[7]) == "s8 class 8 5 40.0% 40.0% class 3 2, class 5 1"
    assert words(lines[8]) == "s4 class 4 2 100.0% 100.0%"
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
    tmp_path: Path, run: Run
) -> None:
    photos = greys(tmp_path, s2=[60], s3=[0], s4=[110])
    async with faking() as fake:
        one = await served(run, fake.url, "--photos", photos, "--worst", 1)
        none = await served(run, fake.url, "--photos", photos, "--worst", 0)
        report = json.loads(await served(run, fake.url, "--photos", photos, "--json"))
    assert [line.split()[0] for line in one.splitlines()[6:]] == ["class", "s3"]
    assert len(none.splitlines()) == 4
    assert [c["synset"] for c in report["scores"][0]["classes"]] == ["s2", "s3", "s4"]


async def test_only_classes_of_another_source(tmp_path: Path, run: Run) -> None:
    photos = greys(tmp_path / "photos", s2=[60, 60], s3=[0], s4=[110])
    with zipfile.ZipFile(tmp_path / "val.zip", "w") as archive:
        archive.writestr("val/s2/a.jpg", b"")
        archive.writestr("val/s7/b.jpg", b"")
    (tmp_path / "classes.txt").write_text("s2 shade two\n\ns7 shade seven\n")
    async with faking() as fake:
        for source in (tmp_path / "val.zip", tmp_path / "classes.txt"):
            text = await served(run, fake.url, "--photos", photos, "--classes", source)
            assert text.splitlines()[1].split()[1:4] == ["2", "0", "100.0%"]
            assert f"left out: 2 of 4 photos, of classes that are not in {source}" in text
        (tmp_path / "classes.txt").write_text("s9")
        last = await served(
            run, fake.url, "--photos", photos, "--classes", tmp_path / "classes.txt"
        )
    assert last.startswith("alexnet-evaluate: none of the photos is of a class in ")


async def test_photos_of_unknown_classes_are_an_error_or_left_out(tmp_path: Path, run: Run) -> None:
    photos = greys(tmp_path, s2=[60, 60], teapot=[0, 0, 0], zebra=[1])
    async with faking() as fake:
        last = await served(run, fake.url, "--photos", photos)
        text = await served(run, fake.url, "--photos", photos, "--known-only")
        none = await served(run, fake.url, "--photos", photos / "zebra", "--known-only")
    assert last == (
        "alexnet-evaluate: 4 photos are of 2 classes that the model does not have, "
        "such as 'teapot': --known-only leaves them out"
    )
    assert text.splitlines()[1].split()[1:4] == ["2", "0", "100.0%"]
    assert "left out: 4 of 6 photos, of classes that the model does not have" in text
    assert none.endswith("none of the photos is of a class that the model has")


async def test_photos_that_cannot_be_read_are_counted_and_named_but_not_scored(
    tmp_path: Path, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    photos = greys(tmp_path, s2=[60, 60], s3=[0])
    (photos / "s3" / "text.png").write_text("no photo")
    (photos / "s3" / "huge.png").write_bytes(bytes(3 << 20))  # the fake takes 1 MiB
    async with faking() as fake:
        text = await served(run, fake.url, fake.url, "--photos", photos)
        (photos / "s2" / "0.png").write_bytes(b"")
        (photos / "s2" / "1.png").write_bytes(b"")
        (photos / "s3" / "0.png").write_bytes(b"")
        last = await served(run, fake.url, "--photos", photos)
    for row in text.splitlines()[1:4]:
        assert row.split()[1:4] == ["3", "2", "66.7%"]
    warnings = [r.getMessage() for r in caplog.records if r.name == "export.evaluate"]
    assert len(warnings) == 2, "each is named once, however many subjects"
    assert warnings[0].startswith(f"skipped {photos / 's3' / 'huge.png'}: ")
    assert "bytes" in warnings[0]
    assert warnings[1].startswith(f"skipped {photos / 's3' / 'text.png'}: the bytes are not")
    assert last.startswith("alexnet-evaluate: none of the 5 photos could be read; ")


def counting(refused: str) -> tuple[Subject, list[int], list[int]]:
    """Answers photo `7` with 7 and refuses one; the photos read, and the sizes of the batches."""
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


def numbered(folder: Path, count: int) -> list[PhotoFile]:
    folder.mkdir()
    for i in range(count):
        (folder / f"{i:03}.png").write_text(str(i))
    return photo_files([folder])


def test_photos_are_read_a_few_batches_ahead_and_answered_in_order(tmp_path: Path) -> None:
    count = AHEAD + 3 * BATCH + 5
    subject, read, batches = counting(refused="100")
    answers = _answers(subject, numbered(tmp_path / "photos", count))
    assert sorted(read) == [i for i in range(count) if i != 100]
    assert answers.probabilities[:, 0].tolist() == [i for i in range(count) if i != 100]
    assert np.flatnonzero(~answers.good).tolist() == [100]
    assert answers.failures == [f"{tmp_path / 'photos' / '100.png'}: not this one"]
    assert batches == [BATCH] * 6 + [4]


def test_the_ensemble_is_of_the_photos_that_every_subject_could_read(tmp_path: Path) -> None:
    files = numbered(tmp_path / "photos", 5)
    first, second = (_answers(counting(refused)[0], files) for refused in "13")
    ensemble = _together([first, second])
    assert ensemble.good.tolist() == [True, False, True, False, True]
    assert ensemble.probabilities[:, 0].tolist() == [0, 2, 4]
    alone = replace(second, good=~ensemble.good)
    with pytest.raises(ValueError, match="no photo that every subject could read"):
        _together([ensemble, alone])


async def test_a_full_server_is_asked_again(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.subjects.PAUSES_S", (0.01,) * 200)
    photos = greys(tmp_path, s2=[60] * 12)
    async with faking(max_queue_size=1) as fake:
        text = await served(run, fake.url, "--photos", photos)
        refused = fake.count("alexnet_requests_total", face="rest", outcome="overloaded")
    assert text.splitlines()[1].split()[1:4] == ["12", "0", "100.0%"]
    assert refused > 0


async def test_a_server_that_fails_ends_it_with_its_own_words(tmp_path: Path, run: Run) -> None:
    photos = greys(tmp_path, s2=[60])
    async with faking() as fake:
        wrong = await served(run, f"{fake.url}/elsewhere", "--photos", photos)
        fake.engine.fail = True
        failing = await served(run, fake.url, "--photos", photos)
    gone = await served(run, fake.url, "--photos", photos)
    start = f"alexnet-evaluate: no answer from {fake.url}"
    assert wrong.startswith(f"{start}/elsewhere: there is nothing at /elsewhere/v1/models")
    assert failing.startswith(f"{start}: ")
    assert "secret" not in failing
    assert gone.startswith(f"{start}: ")
    assert "refused" in gone


async def test_a_server_that_changes_its_model_meanwhile_ends_it() -> None:
    async with faking() as fake:
        subject = await asyncio.to_thread(open_subject, fake.url)
        with closing(subject):
            await asyncio.to_thread(subject.read, flat(60))
            bundle = fake.plane.model.bundle
            newer = replace(bundle.manifest.model, version="2")
            bundle = replace(bundle, manifest=replace(bundle.manifest, model=newer))
            fake.plane.model = replace(fake.plane.model, bundle=bundle)
            with pytest.raises(SubjectError, match="serves tiny 2 now, tiny 1 before"):
                await asyncio.to_thread(subject.read, flat(60))


@pytest.mark.parametrize(
    ("found", "complaint"),
    [("{}", "is no AlexNet server: KeyError"), ("<html>", "status 200 and no JSON")],
)
def test_another_program_at_that_address_is_no_server(
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


def test_a_very_certain_servers_second_guess_is_still_its_second() -> None:
    """What is rounded to 0 keeps its place: class 3 is the third of these."""
    ranked = [(1, 1.0), (2, 0.0), (3, 0.0), (0, 0.0)]
    row = _row([{"index": i, "probability": p} for i, p in ranked])
    assert np.argsort(-row).tolist() == [1, 2, 3, 0]
    np.testing.assert_allclose(row, [0, 1, 0, 0], atol=1e-8)


@pytest.mark.parametrize(
    ("subject", "complaint"),
    [
        ("http://127.0.0.1:1 --views 10", "score 10 views of the bundle or the checkpoint"),
        ("http://127.0.0.1:1", "no answer from http://127.0.0.1:1: .*refused"),
        ("tiny:fp32", "tiny has no fp32 artifact for ONNX Runtime; it has int8"),
        ("absent.tar.xz", "there is no model bundle at absent.tar.xz"),
        ("absent.safetensors", "there are no weights at absent.safetensors"),
        ("s1:int8", "s1 is no bundle, so there is no int8 to choose"),
        ("tiny --classes text", "none of the photos is of a class in text"),
        ("tiny --classes nowhere", "nowhere"),
    ],
)
def test_what_cannot_be_scored_is_one_sentence(
    subject: str, complaint: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(greys(tmp_path / "here", s1=[30]))
    tiny_bundle().write(Path("tiny"))
    Path("text").write_text("s9")
    with pytest.raises(SystemExit, match=f"^alexnet-evaluate: .*{complaint}") as end:
        run(*subject.split(), "--photos", ".")
    assert "\n" not in str(end.value)


@pytest.mark.parametrize(
    "arguments",
    [[], ["x"], ["x", "--photos", ".", "--views", "5"], ["x", "--photos", ".", "--worst", "-1"]],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], run: Run) -> None:
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert end.value.code == 2
