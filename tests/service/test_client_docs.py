"""The examples of docs/clients.md, run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet_client.fake import FakeServer
from alexnet_client.retry import BURST
from tests.paths import ROOT

pytestmark = pytest.mark.process

PAGE = (ROOT / "docs" / "clients.md").read_text()
EXAMPLES = dict(re.findall(r"## ([^\n]+)\n(?:(?!## ).)*?```python\n(.*?)```", PAGE, re.DOTALL))
SEEN = {
    "One photo": "tabby cat 0.5\n1 6.0 1\n",
    "Many photos": "holiday/1.jpg tabby cat\nholiday/2.jpg tabby cat\n",
    "asyncio": "fake\ntabby cat\ntabby cat\ntabby cat\n",
    "In your tests": "",
}


def test_every_example_is_known() -> None:
    assert EXAMPLES.keys() == SEEN.keys()
    assert PAGE.count("```python") == len(EXAMPLES)


@pytest.mark.parametrize("title", SEEN)
def test_an_example_runs(title: str, tmp_path: Path) -> None:
    for name in ("photo.jpg", "holiday/1.jpg", "holiday/2.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"photo")
    with FakeServer() as fake:
        code = EXAMPLES[title].replace('"127.0.0.1:8001"', "")
        # gRPC's own log of lost connections is no output of the example.
        quiet = {"PYTHONPATH": str(ROOT), "GRPC_VERBOSITY": "ERROR"}
        code = re.sub(r"(\w*Client)\(\)", rf'\1("{fake.address}")', code)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            cwd=tmp_path, env={**os.environ, **quiet},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (done.stdout, done.stderr) == (SEEN[title], "")


def test_the_budget_is_as_described() -> None:
    assert f"a token of {BURST}," in PAGE
