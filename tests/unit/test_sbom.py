"""The list of what the server is made of has that and nothing else."""

import runpy
import tomllib
from importlib.metadata import version
from typing import Any

import pytest

from tests.paths import ROOT

SBOM = runpy.run_path(str(ROOT / "deploy" / "sbom.py"))


def component(name: str) -> dict[str, Any]:
    return {"type": "library", "bom-ref": f"{name}==1", "name": name, "version": "1"}


def bom(*names: str) -> dict[str, Any]:
    refs = [f"{name}==1" for name in names]
    return {
        "metadata": {"component": {"bom-ref": "root", "name": "alexnet-server"}},
        "components": [component(name) for name in names],
        "dependencies": [{"ref": "root", "dependsOn": refs}, *({"ref": ref} for ref in refs)],
    }


def test_it_needs_what_its_dependencies_need_and_no_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = SBOM["needed"](project["dependencies"])
    assert {"aiohttp", "multidict", "grpcio", "protobuf"} <= needed.keys()  # one of another
    assert not {"torch", "pytest", "mypy"} & needed.keys()
    assert needed["aiohttp"] == version("aiohttp")


def test_what_another_machine_needs_is_not_needed_here() -> None:
    needed = SBOM["needed"](["no-such-package; platform_machine == 'pdp11'", "aiohttp>=3"])
    assert "no-such-package" not in needed


def test_the_tests_beside_it_are_left_out_and_what_is_vendored_is_listed() -> None:
    made = SBOM["of_the_server"](bom("Aiohttp", "pytest"), {"aiohttp": "1"})
    assert [each["name"] for each in made["components"]] == ["Aiohttp", "swagger-ui-dist"]
    assert made["dependencies"] == [
        {"ref": "root", "dependsOn": ["Aiohttp==1"]}, {"ref": "Aiohttp==1"}
    ]  # fmt: skip
    assert made["metadata"]["component"]["version"]


def test_a_list_that_lacks_a_part_is_none() -> None:
    with pytest.raises(SystemExit, match="lacks multidict"):
        SBOM["of_the_server"](bom("aiohttp"), {"aiohttp": "1", "multidict": "1"})
