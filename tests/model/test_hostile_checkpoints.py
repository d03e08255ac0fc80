"""Checkpoints that a stranger made to hurt: each is one sentence, soon."""

import io
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from training.checkpoint import Checkpoint, CheckpointError
from training.importers import load_model

CPU_S = 3.0
SHARED = b")" + b"2\x86" * 60
"""A pair of the same pair, and so on: 2^60 empty tuples to be hashed."""
DEEP = b")" + b"\x85" * 300_000
"""The stack of C would not hold its hash."""
CONTENTS = {
    "shared parts as a key": b"\x80\x02}" + SHARED + b"K\x01s.",
    "shared parts among keys": b"\x80\x02}(K\x01K\x02" + SHARED + b"K\x01u.",
    "shared parts in a literal": b"\x80\x02(" + SHARED + b"K\x01d.",
    "a deep tuple as a key": b"\x80\x02}" + DEEP + b"K\x01s.",
}


def alone(data: bytes) -> bytes:
    return data


def as_torch_writes_it(data: bytes) -> bytes:
    buffer = io.BytesIO()
    torch.save({}, buffer)
    out = io.BytesIO()
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(out, "w") as new:
        for member in old.infolist():
            new.writestr(
                member.filename, data if "data.pkl" in member.filename else old.read(member)
            )
    return out.getvalue()


def as_torch_wrote_it(data: bytes) -> bytes:
    buffer = io.BytesIO()
    torch.save({}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue().replace(b"\x80\x02}q\x00.", data)


def refusal(path: Path, classes: Path | None = None) -> str:
    began = time.process_time()
    with pytest.raises(CheckpointError) as caught:
        load_model(path, classes)
    assert time.process_time() - began < CPU_S
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    from alexnet.labels import Labels

    path = tmp_path / "classes.txt"
    path.write_text("\n".join(label.synset for label in Labels.imagenet().rows))
    return path


@pytest.mark.parametrize("form", [as_torch_writes_it, as_torch_wrote_it])
@pytest.mark.parametrize("name", CONTENTS)
def test_keys_that_take_for_ever_are_not_given_to_torch(
    tmp_path: Path, name: str, form: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "alexnet.pth"
    path.write_bytes(form(CONTENTS[name]))
    assert "as a key" in refusal(path)


@pytest.mark.parametrize("name", CONTENTS)
def test_keys_that_take_for_ever_are_refused_in_checkpoints_of_2012(
    tmp_path: Path, name: str, classes: Path
) -> None:
    path = tmp_path / "90.1251"
    path.write_bytes(CONTENTS[name])
    assert "as a key" in refusal(path, classes)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.caffemodel", "a.tar.xz", "90.1251"])
def test_neither_a_fifo_nor_a_device_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    assert "no plain file" in refusal(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "no plain file" in refusal(path)
    with pytest.raises(CheckpointError, match="no plain file"):
        Checkpoint.load(path)


def test_a_fifo_in_a_folder_of_2012_is_no_checkpoint(tmp_path: Path, classes: Path) -> None:
    folder = tmp_path / "ConvNet__1"
    folder.mkdir()
    os.mkfifo(folder / "90.1251")
    assert "holds no checkpoint" in refusal(folder, classes)


def test_facts_that_are_nested_deeply_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"alexnet": "[" * 100_000})
    with pytest.raises(CheckpointError, match="too deeply nested"):
        Checkpoint.load(path)
