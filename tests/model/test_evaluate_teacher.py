"""A teacher beside the networks that learned from it."""

import json
from pathlib import Path

from PIL import Image

from alexnet.labels import Labels
from tests.model.evaluation import Evaluate
from tests.photos import class_folders
from tests.teachers import hue_teacher

HUES = ("cherry", "leaf", "sky", "violet")


def test_a_teacher_is_scored_on_its_own_view_of_photos(tmp_path: Path, evaluate: Evaluate) -> None:
    class_folders(tmp_path / "photos", HUES, each=3)
    teacher = hue_teacher(tmp_path / "hues.onnx", HUES, HUES)
    for views in (1, 10):
        (score,) = json.loads(
            evaluate(teacher, "--photos", tmp_path / "photos", "--views", views, "--json")
        )["scores"]
        assert (score["top1"], score["photos"]) == (1.0, 12)
        assert score["model"] == "teacher hues"


def test_the_report_says_how_often_others_agree_with_the_first(
    tmp_path: Path, evaluate: Evaluate
) -> None:
    """The second takes leaves for skies: a quarter of the photos."""
    class_folders(tmp_path / "photos", HUES, each=3)
    first = hue_teacher(tmp_path / "first.onnx", HUES, HUES)
    other = hue_teacher(tmp_path / "other.onnx", HUES, ("cherry", "sky", "leaf", "violet"))
    facts = json.loads(other.with_suffix(".json").read_text()) | {"classes": list(HUES)}
    other.with_suffix(".json").write_text(json.dumps(facts))
    folder = tmp_path / "report"
    text = evaluate(first, other, "--photos", tmp_path / "photos", "--output", folder)
    assert "agree: photos of which the first class is that of " + str(first) in text
    scores = json.loads((folder / "report.json").read_text())["scores"]
    assert [score["agreement"] for score in scores[:2]] == [1.0, 0.5]
    with Image.open(folder / "pairs.png") as picture:
        assert picture.width > 500


def test_groups_of_imagenets_classes_are_told(tmp_path: Path, evaluate: Evaluate) -> None:
    """Whatever this teacher answers: one class of each of three groups has photos."""
    class_folders(tmp_path / "photos", ("n01440764", "n02123045", "n07745940"), each=2)
    synsets = [label.synset for label in Labels.imagenet().rows]
    teacher = hue_teacher(tmp_path / "fish.onnx", synsets, synsets)
    facts = json.loads(teacher.with_suffix(".json").read_text()) | {"classes": "imagenet"}
    teacher.with_suffix(".json").write_text(json.dumps(facts))
    text = evaluate(teacher, "--photos", tmp_path / "photos", "--worst", 0)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    start = lines.index("top-1 of 3 groups of classes, the worst first")
    assert {line.rsplit(" ", 3)[0] for line in lines[start + 2 : start + 5]} == {
        "cats", "fish", "food",
    }  # fmt: skip
