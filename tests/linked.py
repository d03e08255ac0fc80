"""Environments with our wheels and with what these demand, and nothing else.

What they demand is linked from this environment, so that no index is asked and it takes seconds. A
dependency that is not declared is missing there.
"""

import subprocess
import sys
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.paths import ROOT


def wheel(project: Path, out: Path) -> Path:
    """Built of the folder, by the build backend of this environment."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps",
         "--no-build-isolation", "--wheel-dir", out, project],
        cwd=ROOT, check=True,
    )  # fmt: skip
    (built,) = out.glob(f"{distribution_name(project)}-*.whl")
    return built


def distribution_name(project: Path) -> str:
    return "alexnet" if project == ROOT else project.name


def environment(folder: Path, *wheels: Path) -> Path:
    """Its folder of programs, `python` among them."""
    venv.create(folder, symlinks=True)
    programs = folder / "bin"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", programs / "python", "install", "--quiet",
         "--no-index", "--no-deps", "--no-compile", *wheels],
        check=True,
    )  # fmt: skip
    (packages,) = folder.glob("lib/python*/site-packages")
    found: dict[str, Distribution] = {}
    for info in packages.glob("*.dist-info"):
        _close(Distribution.at(info), found)
    for needed in found.values():
        for file in needed.files or ():
            source, link = Path(str(needed.locate_file(file))), packages / file
            if ".." not in file.parts and not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(source)
    return programs


def _close(from_: Distribution, found: dict[str, Distribution]) -> None:
    """Adds what it demands, and what that demands, without extras."""
    for text in from_.requires or ():
        needed = Requirement(text)
        if needed.name in found or (needed.marker and not needed.marker.evaluate({"extra": ""})):
            continue
        found[needed.name] = distribution(needed.name)
        _close(found[needed.name], found)
