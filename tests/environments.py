"""Environments for other projects' clients and other Pythons, made when first needed, and kept."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT


def environment(name: str, requirements: Path, python: str = sys.executable) -> Path:
    """The interpreter of one that has these requirements; skips where they cannot be fetched."""
    folder = ROOT / f".venv-{name}"
    mark = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    made, stamp = folder / "bin" / "python", folder / "stamp"
    if stamp.exists() and stamp.read_text() == mark:
        return made
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, "-m", "venv", folder], check=True)
    (folder / ".gitignore").write_text("*\n")
    installed = subprocess.run(
        [made, "-m", "pip", "install", "--quiet", "--no-compile", "--retries", "1",
         "-r", requirements],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "from versions: none" in installed.stderr:  # of a package that has versions
        pytest.skip(f"the package index cannot be reached, and {name} is not installed yet")
    assert installed.returncode == 0, installed.stderr
    stamp.write_text(mark)
    return made
