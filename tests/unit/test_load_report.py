"""The output of `alexnet-load`: rows, notes, the JSON document, and the baseline."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alexnet_client.classifier_pb2 import ClassifyResponse, ModelVersion, Timing
from alexnet_client.load.baseline import Baseline, is_worse
from alexnet_client.load.point import Load, Point, Request, summarise
from alexnet_client.load.report import HEADER, format_notes, format_row, to_document
from alexnet_client.load.sender import OK, Reply, Sender


async def nothing(photo: int, timeout_s: float) -> Reply:
    raise AssertionError("these tests send nothing")


def point_of(sent: Sequence[Request], load: Load | None = None) -> Point:
    sender = Sender(1, 1, nothing, ClassifyResponse.FromString)
    return summarise(load or Load(rate=10, seconds=1, timeout_s=0.5), sent, sender, 0.0)


def ok(due: float, latency: float) -> Request:
    answer = ClassifyResponse(model=ModelVersion(version="7"), timing=Timing(batch_size=1))
    return Request(due, due, due + latency, OK, answer.SerializeToString())


def test_every_row_is_as_wide_as_the_header() -> None:
    for p in (
        point_of([]),
        point_of([ok(0, 0.4), ok(0, 1.5)]),
        point_of([ok(0, 0.1)], Load(concurrency=32)),
        point_of([Request(0, 0, 0.1, name, b"") for name in ("late", "overloaded", "internal")]),
    ):
        assert len(format_row(p)) == len(HEADER) <= 100


def test_notes_list_refusals_failures_and_versions() -> None:
    refused = Request(0, 0, 0.02, "overloaded", b"")
    failed = [Request(0, 0, 0.1, "internal", b"")] * 2
    assert list(format_notes([point_of([refused, *failed, ok(0, 0.1)])])) == [
        "refused at 10/s: after 20.0 ms at p50, 20.0 ms at p99",
        "failed at 10/s: 2 internal",
        "answered by version 7",
    ]


SETTINGS: dict[str, Any] = {"protocol": "grpc", "rates": [10.0, 20.0], "cancel": 0.0}


def saved(path: Path, latency: float, count: int = 5) -> Path:
    p = point_of([ok(i / 10, latency) for i in range(count)])
    path.write_text(json.dumps(to_document(SETTINGS, [p])))
    return path


@pytest.mark.parametrize(
    ("latency", "count", "expected"),
    [(0.1, 5, False), (0.115, 5, False), (0.13, 5, True), (0.05, 5, False), (0.1, 3, True)],
)
def test_a_point_is_worse_beyond_the_tolerance_only(
    tmp_path: Path, latency: float, count: int, expected: bool
) -> None:
    baseline = Baseline.read(saved(tmp_path / "then.json", 0.1))
    changes = baseline.changes([point_of([ok(i / 10, latency) for i in range(count)])])
    assert list(changes) == ["10/s"]
    assert changes["10/s"]["p50"] == pytest.approx(latency / 0.1)
    assert is_worse(changes["10/s"], tolerance=0.2) is expected


def test_a_point_without_answers_is_worse_than_one_with(tmp_path: Path) -> None:
    baseline = Baseline.read(saved(tmp_path / "then.json", 0.1))
    change = baseline.changes([point_of([Request(0, 0, 0.5, "late", b"")])])["10/s"]
    assert change == {"goodput": 0, "p50": None, "p99": None}
    assert is_worse(change, tolerance=0.2)


def test_only_equal_levels_are_compared_and_other_settings_are_listed(tmp_path: Path) -> None:
    baseline = Baseline.read(saved(tmp_path / "then.json", 0.1))
    elsewhere = point_of([ok(0, 0.1)], Load(rate=11, seconds=1))
    assert baseline.changes([elsewhere]) == {}
    assert baseline.changed_settings({**SETTINGS, "rates": None}) == []
    assert baseline.changed_settings({**SETTINGS, "cancel": 0.5}) == ["cancel was 0.0, is 0.5"]


def test_a_point_with_a_problem_is_no_baseline(tmp_path: Path) -> None:
    path = tmp_path / "then.json"
    late = point_of([replace(ok(0.1, 0.4), sent=0.4)])
    path.write_text(json.dumps(to_document(SETTINGS, [late])))
    assert Baseline.read(path).changes([late]) == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "points": [1]}'])
def test_an_invalid_baseline_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "then.json").write_text(text)
    with pytest.raises(ValueError, match="is not what --output writes"):
        Baseline.read(tmp_path / "then.json")
