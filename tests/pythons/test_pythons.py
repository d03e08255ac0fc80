"""The wheels serve and classify on every Python that they say they are for: make test-pythons."""

import os
import re
import shutil
import subprocess
import tomllib
import urllib.request
from pathlib import Path

import pytest

from tests import linked
from tests.environments import environment
from tests.paths import ROOT
from tests.photos import jpeg
from tests.processes import FREE_PORTS, ServerProcess, banner_of

PROJECTS = [
    tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    for folder in (ROOT, ROOT / "alexnet_client")
]
VERSIONS = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECTS[0]["classifiers"]))
PYENV = Path("~/.pyenv/versions").expanduser()


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    out = tmp_path_factory.mktemp("wheels")
    return [linked.wheel(project, out) for project in (ROOT, ROOT / "alexnet_client")]


def test_both_distributions_are_for_the_same_pythons() -> None:
    assert len(VERSIONS) > 3
    ours, clients = ({c for c in p["classifiers"] if "Python ::" in c} for p in PROJECTS)
    assert ours == clients
    assert {project["requires-python"] for project in PROJECTS} == {f">={VERSIONS[0]}"}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_wheels_serve_and_classify(version: str, wheels: list[Path], tmp_path: Path) -> None:
    python = prepared(version, wheels, tmp_path)
    flags = [part for flag in FREE_PORTS.items() for part in flag]
    # What a new Python warns of, a later one refuses; of other people's code only ours to hear.
    warnings = [f"-Werror:::{name}" for name in ("alexnet", "server", "protos", "alexnet_client")]
    server = subprocess.Popen(
        [python, *warnings, "-m", "server", *flags], cwd=tmp_path, env=clean(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        started = ServerProcess(server, banner_of(server))
        photo = tmp_path / "photo.jpg"
        photo.write_bytes(jpeg())
        ask = urllib.request.Request(f"{started.http}/v1/classify", photo.read_bytes())
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(ask, timeout=20) as reply:
            assert b'"probability"' in reply.read()
        asked = subprocess.run(
            [python, "-m", "alexnet_client.classify", "--server", started.grpc, photo],
            cwd=tmp_path, env=clean(), capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert asked.returncode == 0, asked.stderr
        server.terminate()
        _, log = server.communicate(timeout=30)
        assert server.returncode == 0, log
        assert "Warning" not in log
    finally:
        server.kill()
        server.communicate()


def prepared(version: str, wheels: list[Path], folder: Path) -> Path:
    """The interpreter of an environment with the wheels; skips where this Python is not here."""
    requirements = folder / "requirements.txt"
    demands = sorted({text for project in PROJECTS for text in project["dependencies"]})
    lines = [f"--constraint {ROOT / 'constraints.txt'}", *demands]
    requirements.write_text("\n".join(lines) + "\n")
    python = environment(f"python{version}", requirements, found(version))
    again = "--quiet", "--no-index", "--no-deps", "--force-reinstall"
    subprocess.run([python, "-m", "pip", "install", *again, *wheels], check=True)
    return python


def found(version: str) -> str:
    """On the path, or where pyenv keeps it."""
    named = shutil.which(f"python{version}")
    kept = [str(path) for path in sorted(PYENV.glob(f"{version}.*/bin/python{version}"))]
    for candidate in (*kept, *([named] if named else [])):
        if subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return candidate
    pytest.skip(f"there is no Python {version} here")


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
