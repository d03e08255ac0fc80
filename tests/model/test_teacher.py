"""A teacher's ONNX file and its JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexnet.labels import Labels
from tests.teachers import SIDE, hue_teacher
from training.teacher import Teacher, TeacherError

HUES = ("cherry", "leaf", "sky", "violet")
ORDER = ("violet", "leaf", "sky", "cherry")
RED, GREEN = (204, 41, 41), (122, 204, 41)  # of class_folders' first two hues


def crops(*colours: tuple[int, int, int]) -> np.ndarray:
    return np.stack([np.full((SIDE, SIDE, 3), colour, np.uint8) for colour in colours])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_a_teacher_answers_with_probabilities_of_its_classes(
    tmp_path: Path, layout: str, output: str
) -> None:
    path = hue_teacher(tmp_path / "hues.onnx", HUES, ORDER, layout=layout, output=output)
    teacher = Teacher(path)
    assert teacher.name == "hues"
    assert [row.synset for row in teacher.labels.rows] == list(ORDER)
    answers = teacher(crops(RED, GREEN, RED))
    assert answers.shape == (3, 4)
    assert answers.argmax(1).tolist() == [3, 1, 3]
    np.testing.assert_allclose(answers.sum(1), 1, rtol=1e-5)
    centres = (np.array([RED, GREEN]) - 127) / 128
    ratio = answers[0, 3] / answers[0, 1]
    assert np.log(ratio) == pytest.approx(20 * ((centres[0] - centres[1]) ** 2).sum(), rel=0.05)


def test_a_number_stands_for_three_channels_and_imagenet_for_its_classes(tmp_path: Path) -> None:
    path = hue_teacher(tmp_path / "hues.onnx", HUES, ORDER)
    before = Teacher(path).sha256
    facts = json.loads(path.with_suffix(".json").read_text()) | {"mean": [1, 2, 3.5], "scale": 64}
    path.with_suffix(".json").write_text(json.dumps(facts | {"classes": "imagenet"}))
    teacher = Teacher(path)
    assert (teacher.description.mean, teacher.description.scale) == ((1.0, 2.0, 3.5), (64.0,) * 3)
    assert teacher.labels == Labels.imagenet()
    assert teacher.sha256 != before
    with pytest.raises(TeacherError, match=r"answers with the shape \(1, 4\), but has 1000"):
        teacher(crops(RED))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("layout", "CHWN", "layout cannot be 'CHWN': NCHW or NHWC"),
        ("output", "scores", "output cannot be 'scores': logits or probabilities"),
        ("side", 0, "side cannot be 0"),
        ("side", "224", "side cannot be '224'"),
        ("resize", 8, "resize cannot be 8: px from 32 to 4096"),
        ("mean", [1, 2], r"mean cannot be \[1, 2\]: a number, or three"),
        ("scale", 0, "scale cannot be 0"),
        ("classes", ["a", 3], 'classes are "imagenet" or a list of names'),
        ("classes", ["a", "a"], "twice"),
        ("input", 3, "input cannot be 3"),
    ],
)
def test_a_wrong_value_in_the_json_is_named(
    tmp_path: Path, key: str, value: Any, message: str
) -> None:
    path = hue_teacher(tmp_path / "hues.onnx", HUES, ORDER)
    facts = json.loads(path.with_suffix(".json").read_text()) | {key: value}
    path.with_suffix(".json").write_text(json.dumps(facts))
    with pytest.raises(TeacherError, match=message):
        Teacher(path)


def test_what_is_no_teacher_is_one_sentence(tmp_path: Path) -> None:
    path = hue_teacher(tmp_path / "hues.onnx", HUES, ORDER)
    text = path.with_suffix(".json").read_text()
    for broken, message in (("{", "is not JSON"), ("{}", "needs exactly the keys classes, input")):
        path.with_suffix(".json").write_text(broken)
        with pytest.raises(TeacherError, match=message):
            Teacher(path)
    path.with_suffix(".json").unlink()
    with pytest.raises(TeacherError, match="says how the teacher wants photos"):
        Teacher(path)
    path.with_suffix(".json").write_text(text)
    path.write_bytes(b"no graph")
    with pytest.raises(TeacherError, match="is no graph that ONNX Runtime reads"):
        Teacher(path)
    path.unlink()
    with pytest.raises(TeacherError, match="cannot be read"):
        Teacher(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": "pixels"}, "has the inputs photos, not 'pixels' alone"),
        ({"side": 30}, r"its JSON says float \(3, 30, 30\)"),
        ({"layout": "NHWC"}, r"its JSON says float \(32, 32, 3\)"),
    ],
)
def test_a_json_that_does_not_fit_the_graph_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = hue_teacher(tmp_path / "hues.onnx", HUES, ORDER)
    facts = json.loads(path.with_suffix(".json").read_text()) | changes
    path.with_suffix(".json").write_text(json.dumps(facts))
    with pytest.raises(TeacherError, match=message):
        Teacher(path)


def test_logits_that_are_called_probabilities_are_noticed(tmp_path: Path) -> None:
    path = hue_teacher(tmp_path / "hues.onnx", HUES, ORDER)
    facts = json.loads(path.with_suffix(".json").read_text()) | {"output": "probabilities"}
    path.with_suffix(".json").write_text(json.dumps(facts))
    with pytest.raises(TeacherError, match="answers with logits, its JSON says probabilities"):
        Teacher(path)(crops(RED))
