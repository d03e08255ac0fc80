"""The files of cuda-convnet, pickles or zips of one: checkpoints, `<epoch>.<batch>`, and the
`batches.meta` of the photos."""

import io
import re
import zipfile
from pathlib import Path
from typing import Any

from training.checkpoint import CheckpointError
from training.importers.array_pickle import unpickle
from training.importers.base import reason

MAX_BYTES = 2 << 30
Layer = dict[str, Any]


def recognises(path: Path) -> bool:
    """Whether this is a folder, a pickle of protocol 2 or a zip."""
    if path.is_dir():
        return True
    with path.open("rb") as file:
        return file.read(4).startswith((b"\x80\x02", b"PK\x03\x04"))


def newest(folder: Path) -> Path:
    """The file `<epoch>.<batch>` with the highest numbers."""
    names = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}")
    files = [file for file in folder.iterdir() if names.fullmatch(file.name) and file.is_file()]
    if not files:
        raise CheckpointError(f"{folder} holds no checkpoint of cuda-convnet, such as 90.1251")
    return max(files, key=lambda file: [int(number) for number in file.name.split(".")])


def read(data: bytes, file: Path) -> dict[str, Layer]:
    """The layers by name, with names as inputs: files with a list of layers have positions."""
    contents = _contents(data, file)
    try:
        layers = contents["model_state"]["layers"]
        if not isinstance(layers, dict):
            layers = {layer["name"]: layer for layer in layers}
        names = list(layers)
        return {
            name: {
                **layer,
                "inputs": [names[i] if isinstance(i, int) else i for i in layer.get("inputs", [])],
            }
            for name, layer in layers.items()
        }
    except (TypeError, KeyError, IndexError, AttributeError):
        raise CheckpointError(f"{file} is no checkpoint of cuda-convnet: no layers") from None


def read_mean(path: Path) -> Any:
    """The mean image of a `batches.meta`, as it was pickled: (3 * side * side, 1), RGB."""
    contents = _contents(path.read_bytes(), path, "batches.meta")
    try:
        return contents["data_mean"]
    except (TypeError, KeyError, IndexError, AttributeError):
        raise CheckpointError(
            f"{path} is no batches.meta of cuda-convnet: it has no data_mean"
        ) from None


def _contents(data: bytes, file: Path, kind: str = "checkpoint") -> Any:
    try:
        if not data.startswith(b"PK"):
            return unpickle(data)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if [member.filename for member in members] != ["data"]:
                raise ValueError("it is a zip, but not of one file named data")
            if members[0].file_size > MAX_BYTES:
                raise ValueError(f"it is larger than {MAX_BYTES >> 30} GiB")
            return unpickle(archive.read("data"))
    except Exception as error:  # a damaged pickle or zip raises almost anything
        raise CheckpointError(f"{file} is no {kind} of cuda-convnet: {reason(error)}") from None
