"""The log: a line a record, for people or as JSON, with the request's id where there is one."""

import json
import logging
import sys
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime

request_id: ContextVar[str] = ContextVar("request_id", default="")


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
        return f"{text} [{request_id.get()}]" if request_id.get() else text


def configure(level: str, json_lines: bool, process: str = "") -> None:
    """Sends everything to stderr. stdout carries the banner only. `process` tells several apart."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(process) if json_lines else TextFormatter(process))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)


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
