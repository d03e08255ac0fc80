"""Completes the list of what the server is made of, and proves that it lacks nothing: make sbom."""

import json
import re
import sys
import tomllib
from pathlib import Path

import alexnet


def main() -> None:
    file = Path(sys.argv[1])
    bom = json.loads(file.read_text())
    bom["metadata"]["component"]["version"] = alexnet.__version__  # pyproject.toml has none
    file.write_text(json.dumps(bom, indent=1))
    listed = {name(component["name"]) for component in bom["components"]}
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    if missing := [each for each in project["dependencies"] if name(each) not in listed]:
        sys.exit(f"{file} lacks {', '.join(missing)}")
    print(f"{file}: {len(listed)} components")


def name(requirement: str) -> str:
    """`Flask_Cors[x]>=1` -> `flask-cors` (PEP 503)."""
    (found,) = re.findall(r"^[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", found).lower()


if __name__ == "__main__":
    main()
