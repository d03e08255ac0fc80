"""The whole chain with the real commands: train, export, bundle, serve, classify."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from alexnet.bundle import Bundle
from alexnet.preprocess import preprocess
from alexnet.spec import Preprocess
from alexnet_client.client import Client
from export.__main__ import main as export
from tests.paths import ROOT
from tests.photos import class_folders, encode
from tests.processes import start_server, stop_server
from tests.torchvision_crop import resize_and_crop
from training.__main__ import main as train
from training.checkpoint import Checkpoint
from training.network import AlexNet

pytestmark = pytest.mark.process

# Synsets far apart in the list, so that a wrong index shows.
CLASSES = ("n01443537", "n02123045", "n02504458", "n07753592")


def run(*command: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip


def refused(monkeypatch: pytest.MonkeyPatch, main: Callable[[], None], *arguments: object) -> str:
    """The last words of a command, here in this process."""
    monkeypatch.setattr("sys.argv", ["command", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return str(ended.value.code)


@dataclass(frozen=True)
class Trained:
    """Photos of four classes, the run folder of a network that was trained on them, and the log."""

    photos: Path
    val: Path
    run: Path
    log: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("chain")
    photos, val = folder / "photos", folder / "val"
    class_folders(photos, CLASSES, each=24)
    class_folders(val, CLASSES, each=6, seed=1)
    done = run("training", "--train", photos, "--val", val, "--recipe", "smoke",
               "--epochs", "4", "--prune", "0.25", "--output", folder / "run",
               "--cache", folder / "cache")  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Trained(photos, val, folder / "run", done.stderr)


@pytest.fixture(scope="module")
def bundle(trained: Trained) -> Path:
    path = trained.run.parent / "bundle"
    exported = run("export", trained.run / "model.safetensors", "--photos", trained.val,
                   "--val", trained.val, "--output", path)  # fmt: skip
    assert exported.returncode == 0, exported.stderr
    return path


def test_the_command_trains_the_real_network(trained: Trained) -> None:
    assert "96 photos of 4 classes; recipe smoke: alexnet-bn, 4 epochs on" in trained.log
    assert "top-1" in trained.log
    assert "images/s" in trained.log
    assert f"wrote {trained.run / 'model.safetensors'}" in trained.log
    facts = Checkpoint.load(trained.run / "model.safetensors").facts
    assert facts["recipe"]["epochs"] == 4
    assert facts["dense"]["photos"] == 24
    assert {p.name for p in trained.run.iterdir()} == {
        "last.safetensors", "model.safetensors", "log.jsonl", "recipe.json", "environment.json",
        "tensorboard", "curves.png", "confusion.png", "filters.png", "card.md", "best.safetensors",
    }  # fmt: skip
    assert "25% of the fully connected weights are zero" in (trained.run / "card.md").read_text()


def test_a_run_is_not_trained_over(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--train", trained.photos, "--val", trained.val, "--output", trained.run]
    assert "holds a run: go on with it (--resume)" in refused(monkeypatch, train, *flags)


def test_the_bundle_tells_the_truth_about_itself(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    assert manifest.model.classes == 1000
    assert manifest.model.known_classes == len(CLASSES)
    assert "only 4 of its 1000 classes" in manifest.model.description
    assert [a.precision for a in manifest.artifacts] == ["int8", "fp32"]
    for artifact in manifest.artifacts:
        assert artifact.accuracy is not None
        assert artifact.accuracy.photos == 24
        assert artifact.accuracy.top1 > 0.5, "four hues are told apart better than by chance"
    card = (bundle / "card.md").read_text()
    assert f"{manifest.artifacts[0].accuracy.top1:.1%}" in card  # type: ignore[union-attr]


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_the_bundle_is_served_as_well_as_it_was_measured(
    trained: Trained, bundle: Path, precision: str
) -> None:
    server = start_server("--model", str(bundle), "--precision", precision)
    try:
        scored = run("alexnet_client.score", trained.val, "--server", server.grpc, "--json")
        assert scored.returncode == 0, scored.stderr
        one = next((trained.val / CLASSES[0]).iterdir())
        classified = run("alexnet_client.classify", one, "--server", server.grpc, "--json")
        assert classified.returncode == 0, classified.stderr
    finally:
        code, log = stop_server(server)
    assert code == 0, log
    report = json.loads(scored.stdout.splitlines()[-1])
    artifact = {a.precision: a for a in Bundle.open(bundle).manifest.artifacts}[precision]
    assert artifact.accuracy is not None
    assert report["photos"] == 24
    assert report["top1"] == pytest.approx(artifact.accuracy.top1, abs=1e-4)
    prediction = json.loads(classified.stdout)["predictions"][0]
    assert prediction["synset"] in CLASSES


@pytest.mark.usefixtures("narrow", "briefly_timed")
def test_torchvision_weights_become_a_bundle_in_one_command(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's command, on a state dict with torchvision's names. The server answers a photo of
    500 x 375 px as torch does torchvision's crop; with the exact centre it would not."""
    torch.manual_seed(0)
    network = AlexNet(1000).eval()
    for layer in network.layers:  # torch's own weights answer every photo alike
        torch.nn.init.kaiming_normal_(layer.weight)
    torch.save(network.state_dict(), tmp_path / "alexnet.pth")
    output = tmp_path / "mine"
    flags = [tmp_path / "alexnet.pth", "--photos", trained.val, "--output", output]
    monkeypatch.setattr("sys.argv", ["alexnet-export", *map(str, flags)])
    export()
    manifest = Bundle.open(output).manifest
    assert manifest.model.known_classes == 1000
    assert manifest.provenance.recipe == "torchvision"
    assert manifest.preprocess.geometry == "torchvision"
    pixels = np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8)
    image = Image.fromarray(pixels)
    photo = encode(image, "PNG")
    server = start_server("--model", str(output), "--precision", "fp32")
    try:
        with Client(server.grpc) as client:
            answer = client.classify(photo, top_k=1000)
    finally:
        code, log = stop_server(server)
    assert code == 0, log
    served = np.zeros(1000)
    for prediction in answer.predictions:
        served[prediction.index] = prediction.probability
    assert np.abs(served - probabilities(network, resize_and_crop(image))).max() < 0.01
    centre = preprocess(photo, Preprocess(geometry="centre")).crop
    assert np.abs(served - probabilities(network, centre)).max() > 0.05


def probabilities(network: AlexNet, crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    """As torch computes them, with torchvision's normalisation."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((torch.tensor(crop) / 255 - mean) / std).permute(2, 0, 1)[None]
    with torch.inference_mode():
        shares: NDArray[np.float32] = network(x).softmax(1)[0].numpy()
    return shares


def test_a_pickle_that_runs_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, ("raise SystemExit('the pickle ran')",)

    torch.save({"classifier.6.weight": Evil()}, tmp_path / "evil.pth")
    flags = [tmp_path / "evil.pth", "--photos", tmp_path, "--output", tmp_path / "evil"]
    assert "no file of plain weights" in refused(monkeypatch, export, *flags)
