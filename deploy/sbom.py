"""What the server is made of: neither torch nor the tests, which may be in the same environment.

python deploy/sbom.py           name==version, a line for each
python deploy/sbom.py BOM.json  makes an environment's list (CycloneDX) one of the server
"""

import json
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import alexnet

# Of the pages, and in no package (ADR 28).
VENDORED = {
    "type": "library", "bom-ref": "swagger-ui-dist", "name": "swagger-ui-dist", "version": "5.35.0",
    "purl": "pkg:npm/swagger-ui-dist@5.35.0", "licenses": [{"license": {"id": "Apache-2.0"}}],
}  # fmt: skip


def main() -> None:
    parts = needed(tomllib.loads(Path("pyproject.toml").read_text())["project"]["dependencies"])
    if len(sys.argv) == 1:
        print("\n".join(f"{name}=={version}" for name, version in parts.items()))
        return
    file = Path(sys.argv[1])
    bom = of_the_server(json.loads(file.read_text()), parts)
    file.write_text(json.dumps(bom, indent=1))
    print(f"{file}: {len(bom['components'])} components")


def needed(dependencies: list[str]) -> dict[str, str]:
    """Name (PEP 503) -> version of these as they are installed, of their own dependencies, and so
    on. Raises PackageNotFoundError."""
    found, asked = dict[str, str](), set[tuple[str, str]]()
    waiting = list(_applicable(dependencies, ""))
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *sorted(requirement.extras)):
            if (name, extra) not in asked:
                asked.add((name, extra))
                installed = distribution(name)
                found[name] = installed.version
                waiting += _applicable(installed.requires or [], extra)
    return dict(sorted(found.items()))


def _applicable(requirements: Iterable[str], extra: str) -> Iterable[Requirement]:
    """Those that this machine and this Python need."""
    for requirement in map(Requirement, requirements):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def of_the_server(bom: dict[str, Any], parts: dict[str, str]) -> dict[str, Any]:
    """The list with what is among the `parts`, and what is vendored. Exits where one is missing."""
    listed = {canonicalize_name(component["name"]): component for component in bom["components"]}
    if missing := parts.keys() - listed:
        sys.exit(f"the list lacks {', '.join(sorted(missing))}")
    components = [*(listed[name] for name in parts), VENDORED]
    root = bom["metadata"]["component"]
    root["version"] = alexnet.__version__  # pyproject.toml has none
    kept = {component["bom-ref"] for component in components} | {root["bom-ref"]}
    edges = [each for each in bom.get("dependencies", []) if each["ref"] in kept]
    for each in edges:
        if "dependsOn" in each:
            each["dependsOn"] = [ref for ref in each["dependsOn"] if ref in kept]
    return {**bom, "components": components, "dependencies": edges}


if __name__ == "__main__":
    main()
