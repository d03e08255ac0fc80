"""Lines of other programs' code on stderr, as JSON: a process of its own, which also reads the last
words of a server that crashes. Lines that are JSON already pass as they are.

    python json_lines.py < what is written to stderr
"""

import json
import re
import signal
import sys
from datetime import UTC, datetime

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# gRPC: "E0000 00:00:1700000000.1 ...", ONNX Runtime: "2026-11-27 04:33:34.1 [W:onnxruntime:, ...".
LEVEL = re.compile(r"^([IWEF])\d{4} |^\S+ \S+ \[([VIWEF]):onnxruntime")
NAMES = {"V": "debug", "I": "info", "W": "warning", "E": "error", "F": "critical"}


def wrapped(line: str) -> str:
    text = COLOUR.sub("", line)
    found = LEVEL.match(text)
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": NAMES[found[1] or found[2]] if found else "error",
        "logger": "stderr",
        "message": text,
    }
    return json.dumps(entry)


def main() -> None:
    """Ends with the last that writes there, and by no signal: there may be more to say."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for data in sys.stdin.buffer:
        line = data.decode("utf-8", "backslashreplace").rstrip("\r\n")
        if line:
            print(line if line.startswith("{") else wrapped(line), flush=True)


if __name__ == "__main__":
    main()
