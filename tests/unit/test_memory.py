"""Memory that is free goes back to the system."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
from server import memory

memory.return_large_blocks()

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

for _ in range(3):
    large = bytearray(20_000_000)
    last = bytearray(100_000)  # behind it, and stays
    del large
    before = resident_mb()
    held = [bytearray(20_000_000), bytearray(200_000), bytearray(20_000_000), bytearray(200_000)]
    del held[2], held[0]
print(resident_mb() - before)
"""


@pytest.mark.process
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_large_blocks_go_back_to_the_system_when_they_are_free() -> None:
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert float(told.stdout) < 10
