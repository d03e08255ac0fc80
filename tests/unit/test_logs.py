"""The log: one line a record, the request's id, the traceback, and nothing on stdout."""

import errno
import json
import logging
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from server.api import http
from server.telemetry import logs

log = logging.getLogger("server.test")


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A root logger without pytest's handlers, which `configure` would close."""
    root = logging.getLogger()
    level = root.level
    monkeypatch.setattr(root, "handlers", [])
    token = logs.request_id.set("")
    yield
    logs.request_id.reset(token)
    logging.captureWarnings(False)
    root.setLevel(level)


def fail() -> None:
    try:
        raise RuntimeError("the cause")
    except RuntimeError:
        log.exception("it failed")


def json_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    out, err = capsys.readouterr()
    assert out == ""
    return [json.loads(line) for line in err.splitlines()]


def test_a_text_line_has_time_level_message_and_request_id(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("info", json_lines=False)
    log.info("hello %s", "world")
    logs.request_id.set("trace-42")
    log.warning("again")
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first.endswith(" INFO    hello world")
    assert second.endswith(" WARNING again [trace-42]")
    datetime.strptime(first.split()[0], "%H:%M:%S")


def test_a_text_record_carries_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", json_lines=False)
    fail()
    err = capsys.readouterr().err
    assert "ERROR   it failed\nTraceback (most recent call last):" in err
    assert "RuntimeError: the cause" in err


def test_a_json_line_has_exactly_these_keys(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", json_lines=True)
    log.info("two\nlines of %s", '"text"')
    (entry,) = json_lines(capsys)
    assert entry.keys() == {"time", "level", "logger", "message"}
    assert (entry["level"], entry["logger"]) == ("info", "server.test")
    assert entry["message"] == 'two\nlines of "text"'
    time = datetime.fromisoformat(entry["time"])
    assert time.utcoffset() is not None
    assert abs((datetime.now(UTC) - time).total_seconds()) < 60


def test_a_json_line_has_the_request_id_and_the_traceback_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("info", json_lines=True)
    logs.request_id.set("trace-42")
    fail()
    (entry,) = json_lines(capsys)
    assert entry["request_id"] == "trace-42"
    assert entry["traceback"].startswith("Traceback")
    assert "RuntimeError: the cause" in entry["traceback"]


def test_what_is_less_severe_than_the_level_is_not_logged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("warning", json_lines=True)
    log.info("quiet")
    log.warning("loud")
    assert [entry["message"] for entry in json_lines(capsys)] == ["loud"]


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "info"),
        (FileNotFoundError(errno.ENOENT, "No such file"), "error"),
        (TimeoutError(), "error"),
    ],
)
def test_asyncios_complaint_of_too_many_connections_is_one_line_and_no_other_is(
    error: OSError, level: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert http.MIDDLEWARES  # importing that module makes it quiet
    logs.configure("info", json_lines=True)
    logging.getLogger("asyncio").error("what asyncio says", exc_info=error)
    (entry,) = json_lines(capsys)
    assert entry["level"] == level
    assert ("traceback" in entry) is (level == "error")


def test_warnings_of_libraries_are_log_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", json_lines=True)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)  # after catch_warnings, which replaced the hook
        warnings.warn("this is deprecated", DeprecationWarning, stacklevel=1)
    (entry,) = json_lines(capsys)
    assert (entry["level"], entry["logger"]) == ("warning", "py.warnings")
    assert "this is deprecated" in entry["message"]


def test_fields_are_words_of_a_text_line_and_keys_of_a_json_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fields = {
        "status": "200",
        "why": 'two\nwords "here"',
        "photos": [{"format": "PNG", "bytes": 5}],
    }
    logs.configure("info", json_lines=False)
    log.info("GET /", extra={"fields": fields})
    line = capsys.readouterr().err
    assert line.endswith(
        'GET / status=200 why="two\\nwords \\"here\\"" photos=format:PNG,bytes:5\n'
    )
    logs.configure("info", json_lines=True)
    log.info("GET /", extra={"fields": fields})
    (entry,) = json_lines(capsys)
    assert fields.items() <= entry.items()
