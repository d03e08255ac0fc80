"""The model that `make serve` serves: it says what it knows, and is as good as it says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet.bundle import Bundle
from alexnet.manifest import Accuracy
from tests.paths import ROOT, STARTER
from tests.processes import ServerProcess

SHARED = ROOT.parent / "shared"
FLICKR, TILES = SHARED / "thousand" / "val-nips.zip", SHARED / "data" / "val.zip"
needs_shared = pytest.mark.skipif(
    not FLICKR.exists(), reason="the validation photos (../shared) are not on this machine"
)


@pytest.fixture(scope="module")
def starter() -> Bundle:
    return Bundle.open(STARTER)


@pytest.fixture(scope="module")
def measured(starter: Bundle) -> Accuracy:
    accuracy = starter.manifest.artifacts[0].accuracy
    assert accuracy is not None
    return accuracy


def test_the_starter_is_small(starter: Bundle) -> None:
    assert STARTER.stat().st_size <= 16_000_000
    assert [a.precision for a in starter.manifest.artifacts] == ["int8"]


@pytest.mark.process
def test_card_banner_and_readme_say_what_it_knows_and_from_where(
    starter: Bundle, measured: Accuracy, server: ServerProcess
) -> None:
    manifest = starter.manifest
    assert manifest.taught is not None
    assert manifest.learnt_classes <= manifest.model.classes == 1000
    card = starter.files["card.md"].decode()
    readme = (ROOT / "README.md").read_text()
    for text in (card, readme):
        assert "EfficientNet-Lite0" in text
    assert "labelled photos of all of its 1000 classes" in server.banner
    taught = f"{manifest.taught.teacher}'s answers to {manifest.taught.photos:,} photos"
    assert taught in server.banner
    for text in (card, server.banner, readme):
        assert f"{measured.top1:.1%}" in text, "the measured top-1"
        assert f"{measured.top5:.1%}" in text, "the measured top-5"
    assert manifest.calibration is not None
    assert "not an ImageNet model" in readme


def test_int8_agrees_with_the_trained_network(starter: Bundle) -> None:
    assert starter.manifest.artifacts[0].agreement >= 0.97


@pytest.mark.process
@needs_shared
def test_the_running_server_is_as_accurate_as_the_manifest_says(
    server: ServerProcess, measured: Accuracy
) -> None:
    photos = score(server, FLICKR)
    assert photos["failed"] == 0
    assert photos["top1"] == pytest.approx(measured.top1, abs=0.004)
    assert photos["top5"] == pytest.approx(measured.top5, abs=0.004)
    assert photos["top1"] >= 0.315
    assert photos["top5"] >= 0.56


@pytest.mark.process
@needs_shared
def test_tiny_imagenets_classes_are_told_from_one_another() -> None:
    report = run("export.evaluate", STARTER, "--photos", TILES, "--among", TILES, "--json")
    assert json.loads(report)["scores"][0]["top1"] >= 0.515


def score(server: ServerProcess, source: Path) -> dict[str, float]:
    report = run("alexnet_client.score", source, "--server", server.grpc, "--json")
    found: dict[str, float] = json.loads(report.splitlines()[0])
    return found


def run(module: str, *arguments: object) -> str:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
