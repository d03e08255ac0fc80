"""The network of 2012 through the same chain: trained, exported, scored. Narrow, and in-process."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alexnet.bundle import Bundle
from alexnet.spec import Preprocess
from export.__main__ import main as export
from export.evaluate import main as evaluate
from tests.photos import class_folders
from training.data import load
from training.loop import Training
from training.recipe import DEXP

CLASSES = ("cherry", "leaf", "sky", "violet")


@pytest.mark.usefixtures("briefly_timed")
def test_a_network_of_2012_is_trained_exported_and_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("training.network.HIDDEN", 64)
    photos, val = tmp_path / "photos", tmp_path / "val"
    class_folders(photos, CLASSES, each=16, side=256)
    class_folders(val, CLASSES, each=4, side=256, seed=1)
    # Its full size only at the end, when the hues have been learnt: small crops cost a twelfth.
    recipe = replace(DEXP, epochs=10, batch=16, chunk=4, sizes=((0, 64), (9, 224)))
    data = load([photos], Preprocess(recipe.store, recipe.store))
    training = Training(recipe, data, tmp_path / "run")
    for layer in training.network.layers[5:]:  # sigma 0.01 is for layers 64 times as wide
        torch.nn.init.normal_(layer.weight, std=0.02)
    trained = training.fit([val])
    assert training.network.arch == "alexnet2012"
    assert trained.top1 >= 0.75, "four hues are classified"
    assert torch.isfinite(training.state.loss)

    model, bundle = tmp_path / "run" / "model.safetensors", tmp_path / "bundle"
    arguments = ["--photos", str(photos), "--val", str(val), "--output", str(bundle)]
    monkeypatch.setattr("sys.argv", ["alexnet-export", str(model), *arguments])
    export()
    artifacts = {a.precision: a for a in Bundle.open(bundle).manifest.artifacts}
    assert artifacts.keys() == {"int8", "fp32"}
    for artifact in artifacts.values():
        assert artifact.accuracy is not None
        assert artifact.accuracy.top1 == pytest.approx(trained.top1, abs=0.05)
    assert "Network: alexnet2012" in (bundle / "card.md").read_text()

    class_folders(tmp_path / "few", CLASSES, each=1, side=256, seed=2)
    subjects = [str(model), f"{bundle}:fp32", f"{bundle}:int8", "--photos", str(tmp_path / "few")]
    monkeypatch.setattr("sys.argv", ["alexnet-evaluate", *subjects, "--views", "10"])
    evaluate()
    table = capsys.readouterr().out
    assert "ensemble" in table
    assert "mean of 3" in table
