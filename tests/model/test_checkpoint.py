import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from training.checkpoint import FORMAT, Checkpoint, CheckpointError

TENSORS = {
    "network.weight": torch.arange(6.0).reshape(2, 3),
    "network.bias": torch.tensor([1, -1], dtype=torch.int64),
    "momentum.weight": torch.full((2, 3), 0.5, dtype=torch.bfloat16),
}
FACTS = {"recipe": {"sizes": [[0, 64]]}, "epoch": 3, "seconds": 1.5, "name": "ünï"}


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "last.safetensors"
    Checkpoint(TENSORS, FACTS).save(path)
    again = Checkpoint.load(path)
    assert again.facts == FACTS
    assert again.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert again.tensors[name].dtype == tensor.dtype
        assert torch.equal(again.tensors[name], tensor)
    assert [p.name for p in path.parent.iterdir()] == ["last.safetensors"]


def test_tensors_in_any_memory_layout_keep_their_values(tmp_path: Path) -> None:
    images = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    odd = {"a": images, "b": torch.randn(4, 3).T, "c": torch.ones(2, requires_grad=True)}
    Checkpoint(odd).save(tmp_path / "a.safetensors")
    again = Checkpoint.load(tmp_path / "a.safetensors").tensors
    assert all(torch.equal(again[name], odd[name]) for name in odd)


def test_a_part_is_its_tensors_without_the_prefix() -> None:
    checkpoint = Checkpoint({**TENSORS, "networks.other": torch.zeros(1)})
    assert checkpoint.part("network").keys() == {"weight", "bias"}
    assert checkpoint.part("momentum").keys() == {"weight"}
    assert checkpoint.part("absent") == {}


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.load(path)
    return str(caught.value)


def test_a_missing_file_is_reported_as_missing(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    assert refusal(path) == f"there is no checkpoint at {path}"


@pytest.mark.parametrize("data", [b"", b"text", b"\xff" * 1000], ids=["empty", "text", "noise"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    assert refusal(path).startswith(f"{path} is no AlexNet checkpoint: ")


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    Checkpoint(TENSORS, FACTS).save(path)
    data = path.read_bytes()
    for end in range(0, len(data), 17):
        path.write_bytes(data[:end])
        assert refusal(path).startswith(f"{path} is no AlexNet checkpoint: ")


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"alexnet": "{"}])
def test_safetensors_of_another_program_are_refused(tmp_path: Path, metadata: Any) -> None:
    path = tmp_path / "a.safetensors"
    save_file(TENSORS, path, metadata)
    assert refusal(path).startswith(f"{path} is no AlexNet checkpoint: ")


@pytest.mark.parametrize("facts", [{}, {"format": FORMAT + 1}, {"format": None}, []])
def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path, facts: Any) -> None:
    path = tmp_path / "a.safetensors"
    save_file(TENSORS, path, {"alexnet": json.dumps(facts)})
    assert str(path) in refusal(path)


def test_a_failure_while_writing_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.safetensors"
    Checkpoint(TENSORS, FACTS).save(path)

    def half(tensors: Any, file: Path, metadata: Any) -> None:
        file.write_bytes(b"half a file")
        raise OSError("no space left on device")

    monkeypatch.setattr("training.checkpoint.save_file", half)
    with pytest.raises(OSError, match="no space left"):
        Checkpoint(TENSORS, {"epoch": 4}).save(path)
    assert Checkpoint.load(path).facts == FACTS
    assert list(tmp_path.iterdir()) == [path], "no half of a file stays"


def test_a_full_disk_is_an_error_of_the_system_with_the_name_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("training.checkpoint.save_file", full)
    with pytest.raises(OSError, match="No space left") as caught:
        Checkpoint(TENSORS, FACTS).save(tmp_path / "last.safetensors")
    assert (caught.value.errno, caught.value.filename) == (28, str(tmp_path / "last.safetensors"))


def test_a_new_checkpoint_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    Checkpoint(TENSORS, {"epoch": 1}).save(path)
    Checkpoint({"network.weight": torch.zeros(1)}, {"epoch": 2}).save(path)
    again = Checkpoint.load(path)
    assert again.facts == {"epoch": 2}
    assert again.tensors.keys() == {"network.weight"}
