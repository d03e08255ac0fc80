"""What `alexnet-load` makes of its points: rows, notes, a document, and a baseline."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clients.load.baseline import Baseline, worse
from clients.load.point import Load, Point, Sent, point
from clients.load.report import HEADER, document, notes, row
from clients.load.sender import OK, Reply, Sender
from protos.classifier_pb2 import ClassifyResponse, ModelVersion, Timing


async def nothing(photo: int, timeout_s: float) -> Reply:
    raise AssertionError("these tests send nothing")


def measured(sent: Sequence[Sent], load: Load | None = None) -> Point:
    sender = Sender(1, 1, nothing, ClassifyResponse.FromString)
    return point(load or Load(rate=10, seconds=1, timeout_s=0.5), sent, sender, 0.0)


def answered(due: float, latency: float) -> Sent:
    answer = ClassifyResponse(model=ModelVersion(version="7"), timing=Timing(batch_size=1))
    return Sent(due, due, due + latency, OK, answer.SerializeToString())


def test_every_row_is_as_wide_as_the_header() -> None:
    for p in (
        measured([]),
        measured([answered(0, 0.4), answered(0, 1.5)]),
        measured([answered(0, 0.1)], Load(concurrency=32)),
        measured([Sent(0, 0, 0.1, name, b"") for name in ("late", "overloaded", "internal")]),
    ):
        assert len(row(p)) == len(HEADER) <= 100


def test_notes_tell_what_the_table_cannot() -> None:
    refused = Sent(0, 0, 0.02, "overloaded", b"")
    failed = [Sent(0, 0, 0.1, "internal", b"")] * 2
    assert list(notes([measured([refused, *failed, answered(0, 0.1)])])) == [
        "refused at 10/s: after 20.0 ms at p50, 20.0 ms at p99",
        "failed at 10/s: 2 internal",
        "answered by version 7",
    ]


SETTINGS: dict[str, Any] = {"protocol": "grpc", "rates": [10.0, 20.0], "cancel": 0.0}


def saved(path: Path, latency: float, count: int = 5) -> Path:
    p = measured([answered(i / 10, latency) for i in range(count)])
    path.write_text(json.dumps(document(SETTINGS, [p])))
    return path


@pytest.mark.parametrize(
    ("latency", "count", "is_worse"),
    [(0.1, 5, False), (0.115, 5, False), (0.13, 5, True), (0.05, 5, False), (0.1, 3, True)],
)
def test_a_point_is_worse_beyond_the_tolerance_only(
    tmp_path: Path, latency: float, count: int, is_worse: bool
) -> None:
    baseline = Baseline.read(saved(tmp_path / "then.json", 0.1))
    changes = baseline.changes([measured([answered(i / 10, latency) for i in range(count)])])
    assert list(changes) == ["10/s"]
    assert changes["10/s"]["p50"] == pytest.approx(latency / 0.1)
    assert worse(changes["10/s"], tolerance=0.2) is is_worse


def test_a_point_without_answers_is_worse_than_one_with(tmp_path: Path) -> None:
    baseline = Baseline.read(saved(tmp_path / "then.json", 0.1))
    change = baseline.changes([measured([Sent(0, 0, 0.5, "late", b"")])])["10/s"]
    assert change == {"goodput": 0, "p50": None, "p99": None}
    assert worse(change, tolerance=0.2)


def test_only_like_is_compared_with_like(tmp_path: Path) -> None:
    baseline = Baseline.read(saved(tmp_path / "then.json", 0.1))
    elsewhere = measured([answered(0, 0.1)], Load(rate=11, seconds=1))
    assert baseline.changes([elsewhere]) == {}
    assert baseline.unlike({**SETTINGS, "rates": None}) == []
    assert baseline.unlike({**SETTINGS, "cancel": 0.5}) == ["cancel was 0.0, is 0.5"]


def test_a_point_that_measured_the_generator_is_no_baseline(tmp_path: Path) -> None:
    path = tmp_path / "then.json"
    late = measured([replace(answered(0.1, 0.4), sent=0.4)])
    path.write_text(json.dumps(document(SETTINGS, [late])))
    assert Baseline.read(path).changes([late]) == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "points": [1]}'])
def test_what_is_no_baseline_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "then.json").write_text(text)
    with pytest.raises(ValueError, match="is not what --output writes"):
        Baseline.read(tmp_path / "then.json")
