"""What the access log says while a block runs."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from server.telemetry.logs import JsonFormatter


class AccessLines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))

    def of(self, *names: str) -> list[tuple[Any, ...]]:
        """These fields of each line."""
        return [tuple(line.get(name) for name in names) for line in self.lines]


@contextmanager
def access_lines() -> Iterator[AccessLines]:
    handler = AccessLines()
    logging.getLogger("access").addHandler(handler)
    try:
        yield handler
    finally:
        logging.getLogger("access").removeHandler(handler)
