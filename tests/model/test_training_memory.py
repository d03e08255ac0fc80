"""Memory that is freed in training is not fetched from the system again."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import sys

from training.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()

def use():
    block = bytearray(64_000_000)
    for place in range(0, len(block), 4096):  # a page that nothing wrote to is not there yet
        block[place] = 1

use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True, timeout=60
    )
    return int(done.stdout)


@pytest.mark.process
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_blocks_as_large_as_tensors_are_used_again() -> None:
    pages = 4 * 64_000_000 // 4096
    assert _faults("kept") < pages / 20
    assert _faults("not kept") > pages / 2, "the system keeps them by itself: is this needed?"
