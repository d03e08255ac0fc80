import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from alexnet.labels import Labels
from training.checkpoint import CheckpointError
from training.importers import IMAGENET_MEAN, IMAGENET_STD, load_model
from training.network import AlexNet

KINDS = ("alexnet.pth", "alexnet.pt", "alexnet.PTH", "old.pth", "alexnet.safetensors")

pytestmark = pytest.mark.usefixtures("narrow")


@pytest.fixture
def state() -> dict[str, Tensor]:
    """With torchvision's names."""
    torch.manual_seed(0)
    return AlexNet(1000).state_dict()


def put(path: Path, state: Any) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=path.stem != "old")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", KINDS)
def test_a_state_dict_becomes_a_model(tmp_path: Path, name: str, state: dict[str, Tensor]) -> None:
    model = load_model(put(tmp_path / name, state))
    assert (model.mean, model.std, model.crop) == (IMAGENET_MEAN, IMAGENET_STD, 224)
    assert model.geometry == "torchvision"
    assert (model.labels, model.known) == (Labels.imagenet(), 1000)
    assert model.facts == {"lineage": ["torchvision"], "commit": "unknown"}
    assert not model.network.training
    network = AlexNet(1000).eval()
    network.load_state_dict(state)
    pixels = torch.randint(0, 256, (2, 80, 80, 3), dtype=torch.uint8)
    normalised = (pixels / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor(
        [0.229, 0.224, 0.225]
    )
    with torch.inference_mode():
        expected = network(normalised.permute(0, 3, 1, 2))
        torch.testing.assert_close(model.deployable(pixels), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["alexnet.pth", "alexnet.safetensors"])
def test_any_number_of_classes_is_read_and_named(tmp_path: Path, name: str) -> None:
    path = put(tmp_path / name, AlexNet(5).state_dict())
    model = load_model(path)
    assert [label.synset for label in model.labels.rows] == [f"class_{i}" for i in range(5)]
    assert model.known == model.network.classes == 5
    (tmp_path / "names.txt").write_text("cat\ndog\nbird\nfish\nGerman shepherd\n")
    named = load_model(path, names=tmp_path / "names.txt")
    assert named.labels[4].name == "German shepherd"
    with pytest.raises(CheckpointError, match="leave out --class-order"):
        load_model(path, tmp_path / "names.txt")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state},
        lambda state: {"epoch": 90, "arch": "alexnet", "state_dict": state, "optimizer": {"a": 1}},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {f"module.{k}": v for k, v in state.items()},
        lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}},
        lambda state: {f"module._orig_mod.{k}": v for k, v in state.items()},
    ],
    ids=["state_dict", "script", "nested", "module", "both", "compiled"],
)
def test_what_a_training_script_wraps_around_the_weights_is_removed(
    tmp_path: Path, wrap: Callable[[dict[str, Tensor]], Any]
) -> None:
    state = AlexNet(5).state_dict()
    network = load_model(put(tmp_path / "alexnet.pth", wrap(state))).network
    assert torch.equal(network.layers[0].weight, state["features.0.weight"])


@pytest.mark.parametrize("name", ["alexnet.pth", "alexnet.safetensors"])
def test_half_precision_is_read_as_single(
    tmp_path: Path, name: str, state: dict[str, Tensor]
) -> None:
    half = {name: tensor.bfloat16() for name, tensor in state.items()}
    weight = load_model(put(tmp_path / name, half)).network.layers[0].weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, state["features.0.weight"].bfloat16().float())


def test_a_mean_image_is_refused_since_the_mean_is_known(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    path = put(tmp_path / "alexnet.pth", state)
    with pytest.raises(CheckpointError, match="leave out --mean"):
        load_model(path, mean=tmp_path / "batches.meta")


def test_parameters_with_gradients_are_read(tmp_path: Path, state: dict[str, Tensor]) -> None:
    parameters = {name: torch.nn.Parameter(tensor) for name, tensor in state.items()}
    network = load_model(put(tmp_path / "alexnet.pth", parameters)).network
    assert torch.equal(network.layers[0].weight, state["features.0.weight"])


@pytest.mark.parametrize("kind", ["alexnet.pth", "alexnet.safetensors"])
@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("features.3.bias", None, " is no alexnet: it has no features.3.bias"),
        ("features.4.bias", torch.zeros(2), " is no alexnet, which has no features.4.bias"),
        (
            "features.3.weight",
            torch.zeros(192, 64, 3, 3),
            ": features.3.weight has the shape (192, 64, 3, 3), expected (192, 64, 5, 5)",
        ),
        ("features.3.bias", torch.full((192,), torch.nan), ": features.3.bias has values that are"),
        ("features.3.bias", torch.full((192,), 1e300, dtype=torch.float64), " has values that are"),
        ("features.3.bias", torch.zeros(192, dtype=torch.int32), " holds torch.int32, expected"),
        ("features.3.bias", torch.zeros(192, dtype=torch.complex64), " holds torch.complex64"),
        (
            "classifier.6.weight",
            torch.zeros(10, 64),
            ": classifier.6.bias has the shape (1000,), expected (10,)",
        ),
        ("classifier.6.weight", torch.zeros(0, 64), " has 0 classes; expected 1 to 100,000"),
    ],
)
def test_another_network_is_refused(
    tmp_path: Path, kind: str, name: str, value: Any, complaint: str, state: dict[str, Tensor]
) -> None:
    changed = {k: v for k, v in {**state, name: value}.items() if v is not None}
    assert complaint in refusal(put(tmp_path / kind, changed))


@pytest.mark.parametrize(
    "content",
    [
        [],
        3,
        torch.zeros(2),
        {"a": 1},
        {1: torch.zeros(2)},
        {"features.0.bias": torch.zeros(64).to_sparse()},
        {"features.0.bias": torch.zeros(64, device="meta")},
    ],
    ids=["list", "number", "tensor", "values", "keys", "sparse", "meta"],
)
def test_anything_but_a_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    assert "no state dict" in refusal(put(tmp_path / "alexnet.pth", content))


class Exploit:
    """Unpickling it with pickle.loads runs `function(argument)`."""

    def __init__(self, function: Any, argument: str):
        self.function, self.argument = function, argument

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return self.function, (self.argument,)


@pytest.mark.parametrize("name", ["new.pth", "old.pth", "raw.pth"])
@pytest.mark.parametrize("function", [os.system, eval], ids=["system", "eval"])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, name: str, function: Any) -> None:
    marker = tmp_path / "ran"
    code = f"touch '{marker}'" if function is os.system else f"open({str(marker)!r}, 'w').close()"
    evil = {"classifier.6.weight": Exploit(function, code)}
    pickle.loads(pickle.dumps(evil))
    assert marker.exists(), "this pickle runs nothing at all"
    marker.unlink()
    path = tmp_path / name
    if name == "raw.pth":
        path.write_bytes(pickle.dumps(evil, protocol=2))
    else:
        put(path, evil)
    assert "no file of plain weights" in refusal(path)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["new.pth", "old.pth", "small.safetensors"])
def test_any_damage_to_the_file_is_reported_in_one_sentence(tmp_path: Path, name: str) -> None:
    path = put(tmp_path / name, {"classifier.6.weight": torch.zeros(3, 4), "a": torch.zeros(2)})
    whole = path.read_bytes()
    for end in range(0, len(whole), 1 + len(whole) // 60):
        path.write_bytes(whole[:end])
        refusal(path)
    for position in range(0, len(whole), 1 + len(whole) // 150):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        refusal(path)
