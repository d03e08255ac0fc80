"""The documents tell the truth: tables, links, commands and flags are compared with the code."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gpu.nvml import READINGS
from server.config import Config
from server.engines.runtimes import RUNTIMES
from server.options import parser
from server.telemetry.counts import STAGES
from server.telemetry.gpus import ENGINES
from server.telemetry.metrics import Metrics
from tests.fakes import faking
from tests.paths import ROOT
from training.recipe import RECIPES

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
TRAINING = (ROOT / "docs" / "training.md").read_text()


def test_the_readmes_configuration_table_is_the_code() -> None:
    rows = [
        f"| `--{f.name.replace('_', '-')}` | `{f.default}` | {f.metadata['help']} |"
        for f in fields(Config)
    ]
    table = "\n".join(["| flag | default | what it does |", "|---|---|---|", *rows])
    assert table in README, f"the README's table should be:\n{table}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_adr_has_a_number_of_its_own() -> None:
    numbers = [path.name[:4] for path in sorted((ROOT / "docs" / "adr").glob("*.md"))]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]


def test_make_targets_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in DOCUMENTS:
        for target in re.findall(r"`?make ([a-z]+(?:-[a-z]+)*)", path.read_text()):
            if target in {"a", "it", "sure", "one"}:
                continue
            assert target in targets, f"{path.name}: make {target}"


def test_commands_in_documents_exist() -> None:
    commands = {
        command
        for project in (ROOT / "pyproject.toml", ROOT / "alexnet_client" / "pyproject.toml")
        for command in re.findall(r"^(alexnet-\w+) =", project.read_text(), re.M)
    }
    commands |= {"alexnet-bn", "alexnet-caffe", "alexnet-small"}  # networks
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for command in re.findall(r"\b(alexnet-[a-z]+)\b", path.read_text()):
            assert command in commands, f"{path.name}: {command}"


def test_server_flags_in_operations_exist() -> None:
    known = {option for action in parser()._actions for option in action.option_strings}
    for flag in re.findall(r"`(--[a-z-]+)", OPERATIONS):
        assert flag in known, flag


def test_every_metric_is_in_operations() -> None:
    metrics = Metrics(CollectorRegistry())
    for family in metrics.registry.collect():
        suffix = "_total" if family.type == "counter" else ""
        assert f"`{family.name}{suffix}`" in OPERATIONS, family.name


def test_every_runtime_and_metric_of_gpus_is_in_the_page_on_gpus() -> None:
    text = (ROOT / "docs" / "gpu.md").read_text()
    for runtime in RUNTIMES:
        if runtime.on_gpu:
            assert f"`{runtime.name}`" in text
            assert f"pip install '.[{runtime.extra}]'" in text
            assert f"| {', '.join(runtime.precisions)} |" in text
    names = [name for name, *_ in READINGS]
    for name in (*names, *(f"alexnet_engine_{name}_total" for name, *_ in ENGINES)):
        assert f"`{name}`" in text, name


def test_every_stage_of_a_photo_is_in_operations_in_its_order() -> None:
    table = OPERATIONS.partition("| stage | from | to |")[2].partition("\n\n")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == STAGES


async def test_every_limit_is_in_operations_with_its_flag() -> None:
    (row,) = [line for line in OPERATIONS.splitlines() if line.startswith("| `alexnet_limit` ")]
    flags = dict(re.findall(r"`(\w+)` \(`--([a-z-]+)`\)", row))
    asked = {"max-queue-size": 7, "max-photo-bytes": 12_345}
    async with faking(max_queue_size=7, max_photo_bytes=12_345) as fake:
        limits = {
            sample.labels["limit"]: sample.value
            for family in fake.server.metrics.registry.collect()
            for sample in family.samples
            if sample.name == "alexnet_limit"
        }
    assert {flags[limit]: value for limit, value in limits.items()} == asked
    assert flags.keys() == limits.keys()


def test_every_recipe_and_network_is_in_the_page_on_training() -> None:
    for recipe in RECIPES.values():
        assert f"| `{recipe.name}` | `{recipe.arch}` |" in TRAINING, recipe.name


def test_flags_in_the_page_on_training_exist() -> None:
    sources = (
        "training/options.py", "training/label.py", "export/options.py", "export/evaluate.py"
    )  # fmt: skip
    known = {
        flag
        for source in sources
        for flag in re.findall(r'"(--[a-z0-9-]+)"', (ROOT / source).read_text())
    }
    torchrun = {"--nproc-per-node", "--nnodes", "--rdzv-backend", "--rdzv-endpoint"}
    others = {"--help", "--logdir"}  # argparse's, tensorboard's
    for flag in re.findall(r"(?<!\w)(--[a-z][a-z0-9-]+)", TRAINING):
        assert flag in known | torchrun | others, flag


def test_no_document_leaves_something_to_fill_in() -> None:
    for path in DOCUMENTS:
        assert not re.search(r"TODO|FIXME|TBD|XX\.X", path.read_text()), path.name


def test_every_test_that_documents_name_exists() -> None:
    names = {path.name for path in (ROOT / "tests").rglob("*.py")}
    for path in DOCUMENTS:
        for name in re.findall(r"`((?:test|check)_\w+\.py)`", path.read_text()):
            assert name in names, f"{path.name}: {name}"
        for pattern in re.findall(r"`(?:tests/service/)?(test_\w+\*\.py)`", path.read_text()):
            assert any(Path(name).match(pattern) for name in names), f"{path.name}: {pattern}"


def test_every_fault_in_the_page_on_reliability_is_shown_by_a_test_that_exists() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    rows = [row.split(" | ") for row in page.splitlines() if row.startswith("| ")]
    faults = [row for row in rows if not row[0].startswith("| fault")]
    assert len(faults) >= 40
    texts: dict[str, str] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        texts[path.name] = texts.get(path.name, "") + path.read_text()
    for fault, *_, shown in faults:
        names = re.findall(r"`(?:(test_\w+\.py)(?:: )?)?(test_\w+)?`", shown)
        assert names or shown == "the same |", f"nothing shows: {fault}"
        file = ""
        for named, test in names:
            file = named or file
            assert file in texts, f"there is no {file}"
            assert not test or f"def {test}(" in texts[file], f"{file} has no {test}"
