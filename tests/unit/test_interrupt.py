"""Ctrl-C that falls into a finalizer ends a command all the same."""

import subprocess
import sys

import pytest

from tests.paths import ROOT

pytestmark = pytest.mark.process

LOSE = """
import os, signal
from alexnet_client import interrupt
class Freed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass
if {ignored}:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
interrupt.watch()
interrupt.check()
freed = Freed()
del freed
print("not noticed", flush=True)
interrupt.check()
print("went on")
"""


@pytest.mark.parametrize(
    ("ignored", "code", "said"), [(False, 1, "not noticed\n"), (True, 0, "not noticed\nwent on\n")]
)
def test_it_is_noticed_at_the_next_check(ignored: bool, code: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOSE.format(ignored=ignored)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert done.stdout == said, done.stderr
    assert (done.returncode != 0) is bool(code)
    assert done.stderr.rstrip().endswith("KeyboardInterrupt") is not ignored
