"""The whole chain with the real commands: train, export, bundle, serve, classify."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from alexnet.bundle import Bundle
from tests.paths import ROOT
from tests.photos import class_folders
from tests.processes import start_server, stop_server
from training.importers import load_model

# Synsets far apart in the list, so that a wrong index shows.
CLASSES = ("n01443537", "n02123045", "n02504458", "n07753592")


def run(*command: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of four classes, and a network trained on them."""
    folder = tmp_path_factory.mktemp("chain")
    class_folders(folder / "photos", CLASSES, each=24)
    photos = folder / "photos"
    trained = run("training", "--train", photos, "--val", photos, "--recipe", "smoke",
                  "--epochs", "6", "--output", folder / "run",
                  "--cache", folder / "cache")  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert "images/s" in trained.stderr
    return folder


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    path = folder / "bundle"
    exported = run("export", folder / "run" / "model.safetensors", "--photos", folder / "photos",
                   "--val", folder / "photos", "--output", path)  # fmt: skip
    assert exported.returncode == 0, exported.stderr
    return path


def test_the_manifest_and_the_card_of_the_bundle(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    assert manifest.model.classes == 1000
    assert manifest.model.known_classes == len(CLASSES)
    assert "only 4 of its 1000 classes" in manifest.model.description
    assert [a.precision for a in manifest.artifacts] == ["int8", "fp32"]
    for artifact in manifest.artifacts:
        assert artifact.accuracy is not None
        assert artifact.accuracy.photos == 96
        assert artifact.accuracy.top1 > 0.5, "four hues are classified better than by chance"
    card = (bundle / "card.md").read_text()
    assert f"{manifest.artifacts[0].accuracy.top1:.1%}" in card  # type: ignore[union-attr]


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_the_served_bundle_has_the_accuracy_in_its_manifest(
    folder: Path, bundle: Path, precision: str
) -> None:
    server = start_server("--model", str(bundle), "--precision", precision)
    try:
        scored = run("clients.score", folder / "photos", "--server", server.grpc, "--json")
        assert scored.returncode == 0, scored.stderr
        one = next((folder / "photos" / CLASSES[0]).iterdir())
        classified = run("clients.classify", one, "--server", server.grpc, "--json")
        assert classified.returncode == 0, classified.stderr
    finally:
        code, log = stop_server(server)
    assert code == 0, log
    report = json.loads(scored.stdout.splitlines()[-1])
    artifact = {a.precision: a for a in Bundle.open(bundle).manifest.artifacts}[precision]
    assert artifact.accuracy is not None
    assert report["photos"] == 96
    assert report["top1"] == pytest.approx(artifact.accuracy.top1, abs=1e-4)
    prediction = json.loads(classified.stdout)["predictions"][0]
    assert prediction["synset"] in CLASSES


def test_torchvision_weights_become_a_bundle_in_one_command(folder: Path) -> None:
    """The README's command, on a state dict with torchvision's names."""
    state = load_model(folder / "run" / "model.safetensors").network.state_dict()
    torch.save(state, folder / "alexnet.pth")
    output = folder / "mine"
    exported = run("export", folder / "alexnet.pth", "--photos", folder / "photos",
                   "--output", output)  # fmt: skip
    assert exported.returncode == 0, exported.stderr
    manifest = Bundle.open(output).manifest
    assert manifest.model.known_classes == 1000
    assert manifest.provenance.recipe == "torchvision"
    server = start_server("--model", str(output))
    code, log = stop_server(server)
    assert code == 0, log


def test_a_pickle_that_runs_code_is_refused(folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, ("raise SystemExit('the pickle ran')",)

    torch.save({"classifier.6.weight": Evil()}, folder / "evil.pth")
    exported = run("export", folder / "evil.pth", "--photos", folder / "photos",
                   "--output", folder / "evil")  # fmt: skip
    assert exported.returncode == 1
    assert "no file of plain weights" in exported.stderr
    assert "the pickle ran" not in exported.stderr
    assert "Traceback" not in exported.stderr
