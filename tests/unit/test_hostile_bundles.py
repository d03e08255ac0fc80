"""Bundles that a stranger made to hurt: each is one sentence, soon, and takes little memory."""

import io
import json
import lzma
import os
import struct
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexnet.bundle import Bundle, BundleError, sha256
from alexnet.golden import Golden
from tests.fakes import CLASSES, SIDE, tiny_bundle

CPU_S, MEMORY_BYTES = 2.0, 64 << 20


@contextmanager
def bounded() -> Iterator[None]:
    """The work within takes little time of a CPU, and little memory."""
    began = time.process_time()
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Counting memory makes allocations several times slower: a looser bound than that of use.
    assert time.process_time() - began < 2 * CPU_S
    assert peak < MEMORY_BYTES


def refusal(path: Path) -> str:
    with bounded(), pytest.raises(BundleError) as caught:
        _ = Bundle.open(path).golden
    message = str(caught.value)
    assert str(path) in message
    assert len(message) < len(str(path)) + 400
    assert "\n" not in message
    return message


def manifest(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(tiny_bundle().manifest.to_json())
    return {**data, **changes}


def folder(path: Path, text: str | bytes | None = None, **files: bytes) -> Path:
    """The tiny bundle with another manifest, or with other files that have the right hash."""
    bundle = tiny_bundle()
    known = bundle.manifest
    if files:
        golden = replace(known.golden, sha256=sha256(files["golden"]))
        bundle = Bundle(
            replace(known, golden=golden), {**bundle.files, "golden.npz": files["golden"]}, ""
        )
    bundle.write(path)
    if text is not None:
        data = text.encode() if isinstance(text, str) else text
        (path / "manifest.json").write_bytes(data)
    return path


def packed(path: Path, tar: bytes) -> Path:
    path.write_bytes(lzma.compress(tar, preset=0))
    return path


def header(kind: bytes, size: int, name: str = "x") -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.size = kind, size
    return entry.tobuf(tarfile.USTAR_FORMAT)


MANIFESTS: dict[str, Callable[[], str | bytes]] = {
    "a list in a list in a list": lambda: "[" * 500_000,
    "objects, deeply": lambda: '{"a":' * 100_000 + "1" + "}" * 100_000,
    "deep where a name belongs": lambda: json.dumps(
        manifest(model=json.loads("[" * 400 + "]" * 400))
    ),
    "a number of a million digits": lambda: '{"format": ' + "9" * 1_000_000 + "}",
    "a number that no float holds": lambda: json.dumps(manifest()).replace(
        '"tolerance": 0.01', '"tolerance": 1' + "0" * 400
    ),
    "a value of a megabyte": lambda: json.dumps(manifest(input="y" * 900_000)),
    "a megabyte of unknown keys": lambda: json.dumps(
        manifest(**{f"key{i}": 0 for i in range(60_000)})
    ),
    "two megabytes": lambda: json.dumps(manifest()) + " " * (2 << 20),
    "a name that is too long for a file": lambda: json.dumps(manifest()).replace(
        "golden.npz", "g" * 5000
    ),
    "half a character": lambda: json.dumps(manifest()).replace("golden.npz", "\\ud800"),
    "a thousand artifacts": lambda: json.dumps(manifest(artifacts=manifest()["artifacts"] * 1000)),
    "a photo of a terapixel": lambda: json.dumps(
        manifest(preprocess={"resize": 10**6, "crop": 8, "interpolation": "bilinear"})
    ),
    "not UTF-8": lambda: b"\xff\xfe{}",
}  # fmt: skip


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_hostile_manifest_is_one_sentence(tmp_path: Path, name: str) -> None:
    refusal(folder(tmp_path / "bundle", MANIFESTS[name]()))


def test_a_fifo_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("manifest.json", "golden.npz"):
        path = folder(tmp_path / name)
        (path / name).unlink()
        os.mkfifo(path / name)
        assert "no plain file" in refusal(path)
    os.mkfifo(tmp_path / "pipe.tar.xz")
    assert "neither a folder nor a plain file" in refusal(tmp_path / "pipe.tar.xz")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no device to try it with")
def test_a_device_in_the_place_of_a_file_is_not_read(tmp_path: Path) -> None:
    for name in ("manifest.json", "golden.npz"):
        path = folder(tmp_path / name)
        (path / name).unlink()
        (path / name).symlink_to("/dev/zero")
        assert "no plain file" in refusal(path)
    assert "neither a folder nor a plain file" in refusal(Path("/dev/zero"))


TARS: dict[str, Callable[[], bytes]] = {
    "a long name of 500 MB": lambda: header(tarfile.GNUTYPE_LONGNAME, 500 << 20) + bytes(8 << 20),
    "a pax header of 500 MB": lambda: header(tarfile.XHDTYPE, 500 << 20) + bytes(8 << 20),
    "a global pax header of digits": lambda: header(tarfile.XGLTYPE, 1 << 20) + b"1" * (1 << 20),
    "5,000 long names in a row": lambda: (
        (header(tarfile.GNUTYPE_LONGNAME, 512) + b"n".ljust(512, b"\0")) * 5000
    ),
    "30,000 members": lambda: header(tarfile.REGTYPE, 0) * 30_000,
    "a sparse file of a terabyte": lambda: header(tarfile.GNUTYPE_SPARSE, 1 << 32) + bytes(4096),
    "a file that says it has 8 GB": lambda: header(tarfile.REGTYPE, (8 << 30) - 1) + bytes(4096),
    "a gigabyte of zeros": lambda: header(tarfile.REGTYPE, 1 << 30) + bytes(64 << 20),
    "a device": lambda: header(tarfile.CHRTYPE, 0),
}


@pytest.mark.parametrize("name", TARS)
def test_a_hostile_archive_is_one_sentence(tmp_path: Path, name: str) -> None:
    refusal(packed(tmp_path / "bundle.tar.xz", TARS[name]()))


def test_an_archive_with_the_small_headers_of_other_programs_is_read(tmp_path: Path) -> None:
    """Times below a second are an extra header for each file, as Python and macOS write them."""
    path = tmp_path / "bundle.tar.xz"
    bundle = tiny_bundle()
    with tarfile.open(path, "w:xz", format=tarfile.PAX_FORMAT) as archive:
        for name, data in {
            "manifest.json": bundle.manifest.to_json().encode(),
            **bundle.files,
        }.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(data), 1700000000.25
            archive.addfile(entry, io.BytesIO(data))
    assert Bundle.open(path).manifest == bundle.manifest


def arrays(crops: str, logits: str) -> bytes:
    """A zip of arrays with these headers and hardly a number behind them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in (("crops.npy", crops), ("logits.npy", logits)):
            line = text.encode() + b"\n"
            archive.writestr(name, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(line)) + line)
    return buffer.getvalue()


def described(dtype: str, shape: object) -> str:
    return str({"descr": dtype, "fortran_order": False, "shape": shape})


def crowded() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i in range(20_000):
            archive.writestr(str(i), b"")
    return buffer.getvalue()


def golden(crops: np.ndarray[Any, Any], logits: np.ndarray[Any, Any]) -> bytes:
    return Golden(crops, logits).to_bytes()


LOGITS = described("<f4", (1, CLASSES))
GOLDENS: dict[str, Callable[[], bytes]] = {
    "crops of a terabyte": lambda: arrays(described("|u1", (10**12, SIDE, SIDE, 3)), LOGITS),
    "crops of a terapixel": lambda: arrays(described("|u1", (1, 10**6, 10**6, 3)), LOGITS),
    "fewer than none": lambda: arrays(described("|u1", (-1, SIDE, SIDE, 3)), LOGITS),
    "objects": lambda: arrays(described("|O", (1, SIDE, SIDE, 3)), LOGITS),
    "a header that is nested deeply": lambda: arrays("(" * 9000, LOGITS),
    "fewer numbers than it says": lambda: arrays(described("|u1", (1, SIDE, SIDE, 3)), LOGITS),
    "20,000 arrays": crowded,
    "none": lambda: golden(
        np.zeros((0, SIDE, SIDE, 3), np.uint8), np.zeros((0, CLASSES), np.float32)
    ),
    "crops of another side": lambda: golden(
        np.zeros((1, 9, 9, 3), np.uint8), np.zeros((1, CLASSES), np.float32)
    ),
    "more logits than crops": lambda: golden(
        np.zeros((1, SIDE, SIDE, 3), np.uint8), np.zeros((2, CLASSES), np.float32)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDENS)
def test_a_hostile_golden_batch_is_one_sentence(tmp_path: Path, name: str) -> None:
    assert "golden batch" in refusal(folder(tmp_path / "bundle", golden=GOLDENS[name]()))
