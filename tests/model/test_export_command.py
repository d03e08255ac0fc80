"""`alexnet-export` from the command line, with narrow networks."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alexnet.bundle import Bundle
from alexnet.manifest import Calibration, Taught
from export.__main__ import main
from export.parity import LIMITS
from training.importers import load_model
from training.network import AlexNet

pytestmark = pytest.mark.usefixtures("narrow")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """torchvision's, of five classes, as a training script saves them."""
    torch.manual_seed(0)
    state = {f"module.{name}": tensor for name, tensor in AlexNet(5).state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "five.pth")
    return tmp_path / "five.pth"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("export.run._report_speed", lambda *_: None)
    caplog.set_level(logging.INFO)


def export(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> str:
    """What the command ends with; nothing if all went well."""
    monkeypatch.setattr("sys.argv", ["alexnet-export", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return str(end.code)
    return ""


def test_weights_of_five_classes_become_a_bundle_that_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path, weights: Path
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("cherry\nleaf\nsky\nviolet\nGerman shepherd\n")
    output = tmp_path / "bundle"
    flags = ("--photos", photos / "val", "--val", photos / "val", "--output", output)
    assert export(monkeypatch, weights, *flags, "--classes", names) == ""
    bundle = Bundle.open(output)
    assert (bundle.manifest.model.classes, bundle.manifest.model.known_classes) == (5, 5)
    assert bundle.labels[4].name == "German shepherd"
    told = "tells 5 classes apart: cherry, leaf, sky, violet, German shepherd."
    assert told in bundle.manifest.model.description
    card = (output / "card.md").read_text()
    assert "cherry, leaf, sky, violet, German shepherd\n" in card
    assert "top-1" in card
    assert "top-5" not in card, "five guesses among five classes are always right"


def test_a_bundle_that_is_exported_again_says_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path, weights: Path
) -> None:
    flags = ("--photos", photos / "val", "--precision", "fp32", "--output")
    assert export(monkeypatch, weights, *flags, tmp_path / "first") == ""
    first = Bundle.open(tmp_path / "first")
    taught, calibration = Taught("lite0", 330_000, 2), Calibration(1.31, 0.08, 0.02, 500)
    model = replace(first.manifest.model, known_classes=3)
    manifest = replace(first.manifest, model=model, taught=taught, calibration=calibration)
    Bundle(manifest, first.files, "first").write(tmp_path / "taught")
    assert export(monkeypatch, tmp_path / "taught", *flags, tmp_path / "again") == ""
    again = Bundle.open(tmp_path / "again")
    assert (again.manifest.taught, again.manifest.calibration) == (taught, calibration)
    assert "labelled photos of 3 of its 5 classes and learned 2 more" in (
        again.manifest.model.description
    )
    card = (tmp_path / "again" / "card.md").read_text()
    assert "Taught by lite0: its answers to 330,000 photos" in card
    assert "calibrated on 500 photos (temperature 1.31)" in card


def test_classes_without_names_are_numbered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path, weights: Path
) -> None:
    flags = ("--photos", photos / "val", "--output", tmp_path / "bundle", "--precision", "fp32")
    assert export(monkeypatch, weights, *flags) == ""
    assert Bundle.open(tmp_path / "bundle").labels[4].name == "class 4"


def test_the_photos_that_training_held_out_score_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path, weights: Path
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("cherry\nleaf\nsky\nviolet\nmoon\n")
    flags = ("--output", tmp_path / "bundle", "--precision", "fp32", "--val-fraction", "0.25")
    train = ("--photos", photos / "train")
    assert export(monkeypatch, weights, *train, *flags, "--classes", names) == ""
    (artifact,) = Bundle.open(tmp_path / "bundle").manifest.artifacts
    assert artifact.accuracy is not None
    assert artifact.accuracy.photos == 12, "3 of 12 of each of four classes"
    assert artifact.accuracy.data == "4 classes of 25% of train"


def test_fp32_is_kept_where_int8_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path, weights: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setitem(LIMITS, "int8", (-1.0, 0.97))
    flags = ("--photos", photos / "val", "--output")
    assert export(monkeypatch, weights, *flags, tmp_path / "bundle") == ""
    manifest = Bundle.open(tmp_path / "bundle").manifest
    assert [artifact.precision for artifact in manifest.artifacts] == ["fp32"]
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "int8 is refused" in warning
    assert "--precision fp32 does without it" in warning
    asked = export(monkeypatch, weights, *flags, tmp_path / "int8", "--precision", "int8")
    assert "--precision fp32 does without it" in asked
    assert not (tmp_path / "int8").exists()


@pytest.mark.parametrize("form", ["bundle", "bundle.tar.xz"])
def test_a_failed_export_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path, weights: Path, form: str
) -> None:
    write_bytes = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        write_bytes(path, data[:10])
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr("alexnet.bundle._pack", lambda files: bytes(1000))
    flags = ("--photos", photos / "val", "--output", tmp_path / "out" / form, "--precision", "fp32")
    message = export(monkeypatch, weights, *flags)
    assert message.startswith("alexnet-export: the disk is full")
    assert "\n" not in message
    assert list((tmp_path / "out").iterdir()) == []


def test_an_output_that_exists_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bundle").mkdir()
    message = export(monkeypatch, tmp_path / "absent", "--photos", "absent", "--output",
                     tmp_path / "bundle")  # fmt: skip
    assert message.endswith("exists; a bundle is never changed in place")


def test_a_smaller_crop_has_less_to_do_and_can_be_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path, weights: Path
) -> None:
    flags = ("--photos", photos / "val", "--precision", "fp32")
    for crop in ("128", "224"):
        assert export(
            monkeypatch, weights, *flags, "--crop", crop, "--output", tmp_path / crop
        ) == ""  # fmt: skip
    small, large = (Bundle.open(tmp_path / crop) for crop in ("128", "224"))
    spec = small.manifest.preprocess
    assert (spec.crop, spec.resize) == (128, 146)
    assert small.manifest.input.shape[1:3] == (128, 128)
    sizes = [len(b.files[b.manifest.artifacts[0].file]) for b in (small, large)]
    assert sizes[0] < sizes[1]
    again = load_model(tmp_path / "128")  # its golden batch is computed once more
    assert again.crop == 128
    larger = ("--crop", "224", "--output", tmp_path / "larger")
    assert export(monkeypatch, tmp_path / "128", *flags, *larger) == ""
    assert Bundle.open(tmp_path / "larger").manifest.preprocess.crop == 224
    assert again.network.fully_connected[0].in_features == 256 * 36
    assert "sees nothing in a crop of 40 px" in export(
        monkeypatch, weights, *flags, "--crop", "40", "--output", tmp_path / "40"
    )
