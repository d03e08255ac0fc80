"""The log: a line a record, for people or as JSON, with the request's id where there is one."""

import atexit
import faulthandler
import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

request_id: ContextVar[str] = ContextVar("request_id", default="")
PLAIN = re.compile(r"[!-~]+")
"""A value that needs no quotes in a line."""


class JsonFormatter(logging.Formatter):
    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry = {
            "time": time,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if self._process:
            entry["process"] = self._process
        if request_id.get():
            entry["request_id"] = request_id.get()
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


class TextFormatter(logging.Formatter):
    def __init__(self, process: str = "") -> None:
        before = f"{process}: " if process else ""
        super().__init__(f"%(asctime)s %(levelname)-7s {before}%(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        text += "".join(f" {name}={_word(value)}" for name, value in _fields(record).items())
        return f"{text} [{request_id.get()}]" if request_id.get() else text


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a record says beside its message: `extra={"fields": {...}}`."""
    return getattr(record, "fields", None) or {}


def _word(value: object) -> str:
    """Without a space, or quoted: `JPEG:640:480`, `decode:3.1,infer:7.2`, `"not here"`."""
    if isinstance(value, dict):
        return ",".join(f"{name}:{_word(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ";".join(map(_word, value))
    text = str(value)
    return text if PLAIN.fullmatch(text) else json.dumps(text)


def configure(level: str, json_lines: bool, process: str = "") -> None:
    """Sends everything to stderr. stdout carries the banner only. `process` tells several apart."""
    for stream in (sys.stdout, sys.stderr):  # a label or a path may be in any script
        if isinstance(stream, io.TextIOWrapper):  # pytest puts others there
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(process) if json_lines else TextFormatter(process))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)


def as_json(message: str) -> str:
    """A line for stdout."""
    record = logging.LogRecord("server", logging.INFO, "", 0, "%s", (message,), None)
    return JsonFormatter().format(record)


def wrap_stderr() -> None:
    """From now on what libraries write there is JSON, too, and what Python says of a crash."""
    ours = os.dup(2)
    reader = subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(__file__).with_name("json_lines.py"))],
        stdin=subprocess.PIPE, stdout=ours, start_new_session=True,
    )  # fmt: skip
    assert reader.stdin is not None
    os.dup2(reader.stdin.fileno(), 2)
    reader.stdin.close()
    # The one from the start may have been opened on a file, and would seek in the pipe.
    sys.stderr = open(2, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
    faulthandler.enable()

    def end() -> None:
        """Process 1 of a container takes all others along."""
        sys.stderr.flush()
        faulthandler.disable()
        os.dup2(ours, 2)
        with suppress(subprocess.TimeoutExpired):
            reader.wait(1.0)

    atexit.register(end)


def quieten(
    logger: logging.Logger,
    kind: type[BaseException],
    line: str,
    which: Callable[[BaseException], bool] = lambda error: True,
) -> None:
    """Makes an error that is the sender's fault one quiet line: no traceback, no flooded log."""

    def quiet(record: logging.LogRecord) -> bool:
        error = record.exc_info and record.exc_info[1]
        if isinstance(error, kind) and which(error):
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args, record.exc_info = line, (), None
        return True

    logger.addFilter(quiet)
