"""A newcomer's photos through the real commands: `alexnet-train photos/`, then what it prints."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet.bundle import Bundle
from tests.paths import ROOT, STARTER
from tests.photos import class_folders
from tests.processes import start_server, stop_server

pytestmark = pytest.mark.process

CLASSES = ("cherry", "leaf", "sky", "violet")


def run(folder: Path, *command: str | Path) -> str:
    """What a command printed; it must succeed, without a traceback."""
    done = subprocess.run(
        list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False,
        timeout=280, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_a_folder_of_photos_becomes_a_served_model_by_the_commands_that_are_printed(
    tmp_path: Path,
) -> None:
    class_folders(tmp_path / "photos", CLASSES, each=20)
    trained = run(tmp_path, sys.executable, "-m", "training", "photos", "--epochs", "3")
    assert "64 photos of 4 classes; recipe finetune: alexnet, 3 epochs" in trained
    before = Bundle.open(STARTER).manifest.provenance.recipe.split(", then ")
    assert f"starter.tar.xz ({', '.join(before)}), with a new last layer" in trained
    assert "class   photos   top-1  taken for" in trained
    export, serve = (shlex.split(line) for line in trained.splitlines()[-2:])
    run(tmp_path, *export)
    bundle = Bundle.open(tmp_path / "models" / "photos")
    assert bundle.manifest.model.known_classes == 4
    assert "cherry, leaf, sky, violet" in bundle.manifest.model.description
    assert bundle.manifest.provenance.recipe == ", then ".join([*before, "finetune"])
    for artifact in bundle.manifest.artifacts:
        assert artifact.accuracy is not None
        assert (artifact.accuracy.photos, artifact.accuracy.data) == (
            16,
            "4 classes of 20% of photos",
        )
        assert artifact.accuracy.top1 >= 0.75, "four hues"
    assert serve[-2] == "--model"
    server = start_server("--model", str(tmp_path / serve[-1]))
    try:
        one = next((tmp_path / "photos" / "sky").iterdir())
        told = run(ROOT, sys.executable, "-m", "alexnet_client.classify", one,
                   "--server", server.grpc, "--json")  # fmt: skip
    finally:
        code, log = stop_server(server)
    assert code == 0, log
    assert "top-5" not in log
    predictions = json.loads(told.splitlines()[-1])["predictions"]
    assert predictions[0]["label"] == "sky"
    assert len(predictions) <= 4
