"""Every error has a reason of its own; server/errors.py is the one table of what each is answered
with, which both protocols and the documentation follow (OpenAPI: test_openapi.py)."""

import re

from server.api.messages import failure
from server.errors import ERRORS, Cancelled, EngineFailure, Expired, Overloaded, ServeError
from tests.paths import ROOT

# What callers and dashboards rely on: reason -> HTTP, gRPC, Triton's reason.
TABLE = {
    "invalid_argument": (400, "INVALID_ARGUMENT", "OTHER"),
    "invalid_image": (400, "INVALID_ARGUMENT", "OTHER"),
    "unauthenticated": (401, "UNAUTHENTICATED", "OTHER"),
    "disabled": (403, "PERMISSION_DENIED", "OTHER"),
    "forbidden": (403, "PERMISSION_DENIED", "OTHER"),
    "not_found": (404, "NOT_FOUND", "OTHER"),
    "too_large": (413, "INVALID_ARGUMENT", "OTHER"),
    "length_required": (411, "INVALID_ARGUMENT", "OTHER"),
    "unsupported_encoding": (415, "INVALID_ARGUMENT", "OTHER"),
    "unsupported_format": (415, "INVALID_ARGUMENT", "OTHER"),
    "overloaded": (429, "RESOURCE_EXHAUSTED", "REJECTED"),
    "rate_limited": (429, "RESOURCE_EXHAUSTED", "REJECTED"),
    "internal": (500, "INTERNAL", "OTHER"),
    "engine": (500, "INTERNAL", "BACKEND"),
    "not_ready": (503, "UNAVAILABLE", "OTHER"),
    "expired": (504, "DEADLINE_EXCEEDED", "REJECTED"),
    "would_miss_deadline": (504, "DEADLINE_EXCEEDED", "REJECTED"),
}
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def test_the_table_is_frozen_and_each_reason_belongs_to_one_error() -> None:
    table = {kind.reason: (kind.http, kind.grpc, kind.triton) for kind in ERRORS}
    assert table == TABLE
    assert len(ERRORS) == len(table)


def test_every_error_is_in_the_table_but_what_has_no_caller() -> None:
    kinds, found = [ServeError], set()
    while kinds:
        found.add(kinds[-1])
        kinds += kinds.pop().__subclasses__()
    assert found == {*ERRORS, Cancelled}
    assert (Cancelled.reason, Cancelled.triton) == ("cancelled", "CANCELED")


def test_only_what_is_our_fault_or_a_matter_of_time_is_a_5xx() -> None:
    servers = {kind.reason for kind in ERRORS if kind.http >= 500}
    assert servers == {"internal", "engine", "not_ready", "expired", "would_miss_deadline"}
    internal = {kind.reason for kind in ERRORS if kind.grpc == "INTERNAL"}
    assert internal == {"engine", "internal"}


def test_the_page_on_operations_lists_exactly_these_reasons_and_statuses() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \| ([A-Z_]+) \|", OPERATIONS, re.MULTILINE)
    assert sorted(rows) == sorted((kind.reason, str(kind.http), kind.grpc) for kind in ERRORS)


def test_the_json_of_an_error() -> None:
    error = Overloaded("all places are taken", retry_after_s=2.0)
    assert failure(error, "trace-42") == {
        "error": {"code": "overloaded", "message": "all places are taken", "retry_after_ms": 2000},
        "request_id": "trace-42",
    }
    without = failure(Expired("too late"), "trace-42")
    assert without["error"] == {"code": "expired", "message": "too late"}


def test_what_the_engine_said_is_not_for_the_caller() -> None:
    assert str(EngineFailure()) == "internal error: the engine failed on this batch"
    assert str(ServeError()) == "internal error"
