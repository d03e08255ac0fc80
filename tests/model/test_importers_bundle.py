"""The weights of our own bundles, out of the fp32 graph or the int8 one."""

import lzma
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from alexnet.bundle import Bundle, sha256
from alexnet.golden import Golden
from alexnet.labels import Label, Labels
from alexnet.manifest import Calibration, Taught
from alexnet.spec import Preprocess
from export.pack import VerifiedArtifact, golden_batch, pack
from export.parity import Parity
from export.precision import calibrate, to_int8
from export.to_onnx import to_onnx
from tests.networks import PLAIN, photos, random_model
from training.checkpoint import CheckpointError
from training.importers import TrainedModel, load_model

LABELS = Labels(tuple(Label(f"c{i}", f"class {i}") for i in range(100)))
FACTS = {"lineage": ["starter", "finetune"], "commit": "abc", "photos": 20, "train_minutes": 1.5}

pytestmark = pytest.mark.usefixtures("narrow")


def logits(model: TrainedModel, crops: Any) -> Any:
    with torch.inference_mode():
        return model.deployable(torch.from_numpy(crops)).numpy()


def bundled(arch: str, *precisions: str, **changes: Any) -> tuple[TrainedModel, Bundle]:
    """A bundle of random weights; none of its artifacts was compared with anything."""
    model = replace(random_model(arch), labels=LABELS, known=100, facts=FACTS, **changes)
    crops = photos(model.crop)
    graphs = {"fp32": lambda: to_onnx(model, model.crop),
              "int8": lambda: to_int8(model, model.crop, calibrate(model, crops))}  # fmt: skip
    verified = [
        VerifiedArtifact(p, graphs[p](), Parity(0.0, 1.0, 4), 0.01, None) for p in precisions
    ]
    bundle = pack(
        model, verified, golden_batch(crops, logits(model, crops)),
        Preprocess(crop=model.crop, geometry=model.geometry),
        name="test", version="1", description="Random.",
    )  # fmt: skip
    return model, bundle


@pytest.mark.parametrize(
    ("arch", "form"), [*((arch, "bundle") for arch in PLAIN), ("alexnet", "bundle.tar.xz")]
)
def test_the_weights_of_an_fp32_graph_come_back_exactly(
    tmp_path: Path, arch: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compress = lzma.compress
    monkeypatch.setattr(
        "alexnet.bundle.lzma.compress", lambda data, preset: compress(data, preset=0)
    )
    model, bundle = bundled(arch, "fp32")
    bundle.write(tmp_path / form)
    again = load_model(tmp_path / form)
    assert again.network.arch == arch, "two of them have the same shapes"
    assert (*again.mean, *again.std) == pytest.approx((*model.mean, *model.std))
    assert (again.labels, again.known, again.crop) == (LABELS, 100, model.crop)
    assert again.facts == FACTS
    weights = zip(again.network.parameters(), model.network.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in weights)


def test_what_a_teacher_and_a_calibration_did_comes_back(tmp_path: Path) -> None:
    taught = Taught("lite0", 330_000, 3)
    calibration = Calibration(1.31, 0.08, 0.02, 500)
    _, bundle = bundled("alexnet", "fp32", taught=taught)
    manifest = replace(bundle.manifest, calibration=calibration)
    Bundle(manifest, bundle.files, "test").write(tmp_path / "bundle")
    again = load_model(tmp_path / "bundle")
    assert (again.taught, again.calibration) == (taught, calibration)


def mean_image() -> torch.Tensor:
    return torch.linspace(60, 180, 224 * 224 * 3).reshape(224, 224, 3)


def test_the_mean_image_and_the_geometry_of_a_bundle_come_back(tmp_path: Path) -> None:
    _, bundle = bundled("alexnet", "fp32", image=mean_image(), geometry="warp")
    bundle.write(tmp_path / "bundle")
    again = load_model(tmp_path / "bundle")
    assert again.image is not None
    assert torch.equal(again.image, mean_image())
    assert again.mean == pytest.approx(mean_image().mean((0, 1)).tolist(), abs=0.01)
    assert again.geometry == "warp"


def test_a_mean_image_that_only_int8_has_is_refused(tmp_path: Path) -> None:
    _, bundle = bundled("alexnet", "int8", image=mean_image())
    bundle.write(tmp_path / "bundle")
    with pytest.raises(CheckpointError, match=r"the mean image of .* cannot be read from int8"):
        load_model(tmp_path / "bundle")


@pytest.mark.parametrize("arch", ["alexnet", "alexnet2012"])
def test_the_weights_of_an_int8_graph_come_back_rounded(tmp_path: Path, arch: str) -> None:
    model, bundle = bundled(arch, "int8")
    bundle.write(tmp_path / "bundle")
    again = load_model(tmp_path / "bundle")
    assert (again.mean, again.std) == ((128.0,) * 3, (64.0,) * 3), "folded into conv1"
    for ours, theirs in zip(again.network.layers[1:], model.network.layers[1:], strict=True):
        step = theirs.weight.abs().amax(tuple(range(1, theirs.weight.dim())), keepdim=True) / 127
        assert ((ours.weight - theirs.weight).abs() <= 0.51 * step).all()
    crops = photos(model.crop)
    apart = np.abs(logits(again, crops) - logits(model, crops)).max()
    assert apart < 0.1 * np.std(logits(model, crops))


def test_fp32_is_preferred(tmp_path: Path) -> None:
    model, bundle = bundled("alexnet", "int8", "fp32")
    bundle.write(tmp_path / "bundle")
    weight = load_model(tmp_path / "bundle").network.layers[3].weight
    assert torch.equal(weight, model.network.layers[3].weight)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(bundle: Bundle, name: str, data: bytes) -> Bundle:
    """With another file under its name, and its hash in the manifest."""
    manifest = bundle.manifest
    if name == manifest.golden.file:
        manifest = replace(manifest, golden=replace(manifest.golden, sha256=sha256(data)))
    else:
        artifacts = tuple(replace(a, sha256=sha256(data)) for a in manifest.artifacts)
        manifest = replace(manifest, artifacts=artifacts)
    return Bundle(manifest, {**bundle.files, name: data}, "test")


def test_a_bundle_that_is_damaged_or_of_another_network_is_refused(tmp_path: Path) -> None:
    _, bundle = bundled("alexnet", "fp32")
    assert "there are no weights at" in refusal(tmp_path / "absent.tar.xz")
    changed(bundle, "model.fp32.onnx", b"\xff\xff no graph").write(tmp_path / "noise")
    assert "holds a damaged graph" in refusal(tmp_path / "noise")
    changed(bundle, "model.fp32.onnx", b"").write(tmp_path / "empty")
    assert "holds no AlexNet: its graph has no w0" in refusal(tmp_path / "empty")
    golden = bundle.golden
    other = Golden(golden.crops, golden.logits[:, ::-1].copy())
    changed(bundle, "golden.npz", other.to_bytes()).write(tmp_path / "other")
    assert "do not compute what its golden batch says" in refusal(tmp_path / "other")


def test_weights_that_lie_in_another_file_are_not_read(tmp_path: Path) -> None:
    _, bundle = bundled("alexnet", "fp32")
    (artifact,) = bundle.manifest.artifacts
    graph = onnx.load_model_from_string(bundle.files[artifact.file])
    weights = graph.graph.initializer[0]
    weights.data_location = onnx.TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", "/dev/zero"
    changed(bundle, artifact.file, graph.SerializeToString()).write(tmp_path / "elsewhere")
    assert "lies in another file" in refusal(tmp_path / "elsewhere")


def test_without_onnx_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, bundle = bundled("alexnet", "fp32")
    bundle.write(tmp_path / "bundle")
    monkeypatch.setitem(sys.modules, "onnx", None)
    message = refusal(tmp_path / "bundle")
    assert "needs onnx: pip install '.[export]' in the checkout, or pass --init none" in message


def test_names_for_classes_that_have_names_are_refused(tmp_path: Path) -> None:
    _, bundle = bundled("alexnet", "fp32")
    bundle.write(tmp_path / "bundle")
    with pytest.raises(CheckpointError, match="leave out --classes"):
        load_model(tmp_path / "bundle", names=tmp_path / "names.txt")
    with pytest.raises(CheckpointError, match="leave out --class-order"):
        load_model(tmp_path / "bundle", tmp_path / "order.txt")
