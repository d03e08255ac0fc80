"""Every error has a reason of its own and an answer in both protocols and in the documentation."""

import json
from collections.abc import Iterator

import grpc
import pytest
from server.api.status import CODES

from server.api.messages import STATUS, failure, status_of
from server.errors import EngineFailure, Overloaded, ServeError
from tests.paths import ROOT


def subclasses(kind: type[ServeError]) -> Iterator[type[ServeError]]:
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


ERRORS = list(subclasses(ServeError))
REASONS = {error.reason for error in ERRORS}


def test_the_reasons_are_frozen_and_each_belongs_to_one_error() -> None:
    assert len(ERRORS) == len(REASONS)
    assert {
        "invalid_argument", "invalid_image", "unsupported_format", "too_large", "not_found",
        "expired", "would_miss_deadline", "overloaded", "disabled", "not_ready", "engine",
    } == REASONS  # fmt: skip


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: str(kind.reason))
def test_every_error_has_an_http_status_and_a_grpc_code(kind: type[ServeError]) -> None:
    assert 400 <= STATUS[kind.reason] <= 599
    assert CODES[kind.reason] is not grpc.StatusCode.OK


def test_the_tables_know_no_other_reason() -> None:
    assert STATUS.keys() == REASONS | {"internal"}
    assert CODES.keys() == REASONS | {"internal"}


def test_only_what_is_our_fault_or_a_matter_of_time_is_a_5xx() -> None:
    servers = {reason for reason, status in STATUS.items() if status >= 500}
    assert servers == {"internal", "engine", "not_ready", "expired", "would_miss_deadline"}
    internal = {reason for reason, code in CODES.items() if code is grpc.StatusCode.INTERNAL}
    assert internal == {"engine", "internal"}


def test_the_documentation_lists_exactly_these_reasons_and_statuses() -> None:
    document = json.loads((ROOT / "server" / "api" / "web" / "openapi.json").read_text())
    error = document["components"]["schemas"]["Error"]["properties"]["error"]
    assert sorted(error["properties"]["code"]["enum"]) == sorted(REASONS | {"internal"})
    for verb in ("post", "put"):
        statuses = {int(s) for s in document["paths"]["/v1/classify"][verb]["responses"]}
        assert statuses == {200, *STATUS.values()} - {STATUS["disabled"]}


def test_the_json_of_an_error() -> None:
    error = Overloaded("all places are taken", retry_after_s=2.0)
    assert status_of(error) == 429
    assert failure(error, "trace-42") == {
        "error": {
            "code": "overloaded",
            "message": "all places are taken",
            "retry_after_ms": 2000,
        },
        "request_id": "trace-42",
    }


def test_what_the_engine_said_is_not_for_the_caller() -> None:
    assert str(EngineFailure()) == "internal error: the engine failed on this batch"
