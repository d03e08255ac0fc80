"""Both wheels, built and installed into an empty environment, do what they are for."""

import os
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from alexnet import __version__
from tests import linked
from tests.paths import ROOT
from tests.photos import jpeg
from tests.processes import FREE_PORTS, ServerProcess, banner_of

pytestmark = pytest.mark.process

EXTRAS = {
    ("alexnet-train", "photos"): ("torch", "train"),
    ("alexnet-label", "a.onnx", "--photos", "photos", "--output", "o"): ("torch", "train"),
    ("alexnet-export", "weights", "--photos", "photos", "--output", "o"): ("torch", "export"),
    ("alexnet-evaluate", "model", "--photos", "photos"): ("tqdm", "export"),
    ("alexnet-plan", "STARTER"): ("onnx", "server-tensorrt"),
}
"""Commands, what the first import is that is missing, and the extra that has it."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    out = tmp_path_factory.mktemp("wheels")
    return [linked.wheel(project, out) for project in (ROOT, ROOT / "alexnet_client")]


@pytest.fixture(scope="module")
def application(built: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linked.environment(tmp_path_factory.mktemp("application") / "venv", built[0])


@pytest.fixture(scope="module")
def library(built: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linked.environment(tmp_path_factory.mktemp("library") / "venv", built[1])


@pytest.fixture(scope="module")
def served(application: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The server as its command starts it, without a model, in a folder of its own."""
    flags = [part for flag in FREE_PORTS.items() for part in flag]
    process = subprocess.Popen(
        [application / "alexnet-server", *flags], cwd=tmp_path_factory.mktemp("elsewhere"),
        env=elsewhere(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    yield ServerProcess(process, banner_of(process))
    process.terminate()
    process.communicate(timeout=30)


def elsewhere() -> dict[str, str]:
    """The environment of a shell that knows nothing of this checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(*command: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=elsewhere(), capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip


def commands(programs: Path) -> list[Path]:
    return sorted(programs.glob("alexnet-*"))


def test_the_client_classifies_with_the_server_both_from_their_wheels(
    served: ServerProcess, library: Path, tmp_path: Path
) -> None:
    (tmp_path / "photo.jpg").write_bytes(jpeg())
    done = run(library / "alexnet-classify", "--server", served.grpc, "photo.jpg", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "%" in done.stdout
    code = (
        "import sys; from alexnet_client.client import Client\n"
        "with Client(sys.argv[1]) as client:\n"
        "    print(client.classify(open('photo.jpg', 'rb').read()).top1.label)"
    )
    shown = run(library / "python", "-c", code, served.grpc, folder=tmp_path)
    assert shown.stdout.strip() in done.stdout, shown.stderr


def test_every_command_tells_what_it_does(application: Path, library: Path, tmp_path: Path) -> None:
    assert len([*commands(application), *commands(library)]) == 10
    for command in (*commands(application), *commands(library)):
        done = run(command, "--help", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"usage: {command.name} ")
        if command.name != "alexnet-export":  # which takes the version of the model
            done = run(command, "--version", folder=tmp_path)
            assert done.stdout == f"{command.name} {__version__}\n"


def test_a_command_without_its_extra_says_in_one_sentence_what_to_install(
    application: Path, tmp_path: Path
) -> None:
    starter = next(application.parent.rglob("starter.tar.xz"))
    for (command, *arguments), (package, extra) in EXTRAS.items():
        arguments = [str(starter) if text == "STARTER" else text for text in arguments]
        done = run(application / command, *arguments, folder=tmp_path)
        (sentence,) = done.stderr.splitlines()
        assert sentence.startswith(f"{command}: {package} is not installed: pip install 'alexnet-")
        assert f".whl[{extra}]'" in sentence
        assert done.returncode == 1


def test_the_client_brings_no_name_but_its_own(built: list[Path]) -> None:
    """The server is in an environment of its own; the client shares other people's."""
    names = [{name.split("/")[0] for name in zipfile.ZipFile(w).namelist()} for w in built]
    server, client = ({name for name in n if not name.endswith(".dist-info")} for n in names)
    assert client == {"alexnet_client"}
    assert server == {"alexnet", "export", "gpu", "protos", "server", "training"}
