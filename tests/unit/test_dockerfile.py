"""The build's context holds what the Dockerfile copies, and the image what a cluster asks for."""

import re

import pytest

from tests.paths import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
LET_IN = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}


def copied() -> set[str]:
    """The first folder or file of each source, but not what another stage made."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    return {source.split("/")[0] for line in lines for source in line.split()}


def test_what_is_copied_is_let_in_and_nothing_else() -> None:
    assert copied() == LET_IN


@pytest.mark.parametrize("name", sorted(copied()))
def test_what_is_copied_exists(name: str) -> None:
    assert (ROOT / name).exists()


def test_every_package_that_an_installed_command_of_the_image_needs_is_copied() -> None:
    projects = ROOT / "pyproject.toml", ROOT / "alexnet_client" / "pyproject.toml"
    text = "".join(project.read_text() for project in projects)
    packages = set(re.findall(r'^alexnet-(?:server|classify|score|plan) = "(\w+)\.', text, re.M))
    assert packages == {"server", "alexnet_client", "export"}
    assert packages | {"alexnet", "gpu", "protos"} <= copied()


def test_the_user_is_a_number_and_not_root() -> None:
    """Kubernetes cannot see of a name that it is not root (runAsNonRoot)."""
    (user,) = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
