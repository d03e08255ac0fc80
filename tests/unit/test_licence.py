"""What others may do with the project, and how it names itself, is the same in every place."""

import hashlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import alexnet
import alexnet_client
from tests.paths import ROOT

CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

TEXTS = {"", ".cff", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml", ".html", ".json"}
FROM_AN_INDEX = re.compile(
    r"\b(?:pip3?|uv|uvx|pipx|poetry)\s(?:[\w-]+\s)*['\"]?alexnet(?:[-_]client)?(?![\w/.-])"
    r"|(?<![\w/.-])alexnet(?:[-_]client)?\[[a-z]"
)


def test_the_licence_is_the_full_text_of_apache_2() -> None:
    text = " ".join((ROOT / "LICENSE").read_text().split())
    assert text.startswith("Apache License Version 2.0, January 2004")
    assert "END OF TERMS AND CONDITIONS" in text
    assert all(f" {number}. " in text for number in range(1, 10))
    assert hashlib.sha256(text.encode()).hexdigest() == (
        "0ffddef9e48f8a09aed5caf2d44f7ba1c1be2d9b8e0a6f693b1635b2d5566645"
    )


def test_every_place_names_the_same_licence_and_authors() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    (author,) = PROJECT["authors"]
    for name in ("CITATION.cff", "Dockerfile"):
        text = (ROOT / name).read_text()
        assert "Apache-2.0" in text
        assert author["name"] in text


def test_the_version_is_released_and_the_same_in_every_place() -> None:
    released = re.findall(r"^## (\S+) \(\d{4}-\d\d-\d\d\)$", CHANGELOG, re.MULTILINE)
    assert re.search(r"^## Unreleased$", CHANGELOG, re.MULTILINE)
    assert released[0] == alexnet.__version__ == alexnet_client.__version__
    chart = (ROOT / "deploy" / "helm" / "Chart.yaml").read_text()
    assert f'appVersion: "{alexnet.__version__}"' in chart


def test_it_cannot_be_uploaded_to_pypi_by_mistake() -> None:
    """The name there is another project's; PyPI refuses this classifier."""
    assert "Private :: Do Not Upload" in PROJECT["classifiers"]


def test_no_text_says_to_install_from_pypi_what_is_not_ours_there() -> None:
    """A folder or a file of a wheel is right: `.`, ./alexnet_client, alexnet-0.1.0-….whl."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    if names == [""]:
        pytest.skip("not a git checkout")
    for name in sorted({name for name in names if name and "/vendor/" not in name}):
        path = ROOT / name
        if path.is_file() and path.suffix in TEXTS:
            for found in FROM_AN_INDEX.finditer(path.read_text(encoding="utf-8")):
                assert path.name in ("pyproject.toml", Path(__file__).name), f"{name}: {found[0]}"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("pip install alexnet", True),
        ("pip install --upgrade 'alexnet[server]'", True),
        ("pip3 install -U alexnet-client, and", True),
        ("uv add alexnet_client", True),
        ("pipx run alexnet", True),
        ("needs alexnet[train]", True),
        ("pip install '.[train]'", False),
        ("pip install ./alexnet_client", False),
        ("pip install 'alexnet-0.1.0-py3-none-any.whl[train]'", False),
    ],
)
def test_what_is_wrong_to_say_is_recognized(text: str, wrong: bool) -> None:
    assert bool(FROM_AN_INDEX.search(text)) is wrong
