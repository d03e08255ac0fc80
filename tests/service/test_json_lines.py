"""With --log-format json every line is JSON: the banner, what libraries write, and a crash."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from server.telemetry import json_lines
from tests.processes import start_server

pytestmark = pytest.mark.process

GRPC = "E0000 00:00:1700000000.123456   123 chttp2_server.cc:1045] UNKNOWN:No address added"
ORT = "\x1b[0;93m2026-11-27 04:33:34.123 [W:onnxruntime:, graph.cc:1 Clean] unused\x1b[m"


def test_lines_of_libraries_become_json_and_json_stays_as_it_is() -> None:
    ours = '{"message": "ours"}'
    said = "\n".join([GRPC, ours, "", ORT, "no line break"])
    run = subprocess.run(
        [sys.executable, "-I", "-S", json_lines.__file__],
        input=said, capture_output=True, text=True, check=True, timeout=20,
    )  # fmt: skip
    lines = run.stdout.splitlines()
    assert lines[1] == ours
    entries = [json.loads(line) for line in lines]
    assert [entry.get("level") for entry in entries] == ["error", None, "warning", "error"]
    assert entries[0]["message"] == GRPC
    assert entries[2]["message"].endswith("unused")


def test_a_server_says_json_only_until_it_crashes(grey: str) -> None:
    server = start_server("--model", grey, "--log-format", "json")
    assert "AlexNet server" in json.loads(server.banner)["message"]
    server.process.send_signal(signal.SIGABRT)
    out, err = server.process.communicate(timeout=20)
    assert out == ""
    messages = [json.loads(line)["message"] for line in err.splitlines()]
    assert any(message.startswith("served: version") for message in messages)
    assert "Fatal Python error: Aborted" in messages


def test_stderr_may_be_a_file(tmp_path: Path) -> None:
    program = (
        "import sys; from server.telemetry import logs; logs.wrap_stderr(); "
        "logs.configure('info', True); logs.logging.info('ours'); print('theirs', file=sys.stderr)"
    )
    with (tmp_path / "server.log").open("w") as log:
        subprocess.run([sys.executable, "-c", program], stderr=log, check=True, timeout=20)
    lines = (tmp_path / "server.log").read_text().splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["ours", "theirs"]
