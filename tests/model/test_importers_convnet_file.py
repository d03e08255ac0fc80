import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.checkpoint import CheckpointError
from training.importers.convnet_file import newest, read

FILE = Path("90.1251")


def to_pickle(layers: Any) -> bytes:
    return pickle.dumps({"model_state": {"layers": layers}}, protocol=2)


def to_zip(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def refusal(data: bytes) -> str:
    with pytest.raises(CheckpointError) as caught:
        read(data, FILE)
    return str(caught.value)


@pytest.mark.parametrize("form", [dict, OrderedDict])
def test_layers_by_name_are_read_unchanged(form: Any) -> None:
    layers = {"data": {"type": "data"}, "fc": {"inputs": ["data"], "weights": [1]}}
    expected = {"data": {"type": "data", "inputs": []}, "fc": layers["fc"]}
    assert read(to_pickle(form(layers)), FILE) == expected
    assert read(to_zip(data=to_pickle(form(layers))), FILE) == expected


def test_in_a_list_of_layers_inputs_are_positions() -> None:
    layers = [{"name": "a"}, {"name": "b"}, {"name": "c", "inputs": [1, 0]}]
    assert read(to_pickle(layers), FILE)["c"]["inputs"] == ["b", "a"]


@pytest.mark.parametrize("names", [["other"], ["data", "more"]])
def test_a_zip_of_something_else_is_refused(names: list[str]) -> None:
    data = to_zip(**dict.fromkeys(names, to_pickle({})))
    complaint = "it is a zip, but not of one file named data"
    assert refusal(data) == f"{FILE} is no checkpoint of cuda-convnet: {complaint}"


def test_a_zip_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = to_zip(data=to_pickle({}))
    assert read(data, FILE) == {}
    monkeypatch.setattr("training.importers.convnet_file.MAX_BYTES", 10)
    assert "larger than" in refusal(data)


@pytest.mark.parametrize(
    "contents", [3, "text", [], {}, {"model_state": 3}, np.zeros(3), np.float64(3)]
)
def test_a_pickle_of_something_else_is_refused(contents: Any) -> None:
    data = pickle.dumps(contents, protocol=2)
    assert refusal(data) == f"{FILE} is no checkpoint of cuda-convnet: no layers"


@pytest.mark.parametrize(
    "layers",
    [3, "text", [3], {"a": 3}, [{}], [{"name": []}], {3: None}, {"a": {"inputs": 3}},
     {"a": {"inputs": [1]}}, np.zeros(3), {"a": np.zeros(3)}],
)  # fmt: skip
def test_invalid_layers_are_refused(layers: Any) -> None:
    assert refusal(to_pickle(layers)) == f"{FILE} is no checkpoint of cuda-convnet: no layers"


def test_the_newest_checkpoint_of_a_folder_has_the_highest_numbers(tmp_path: Path) -> None:
    for name in ("9.1251", "90.99", "90.1251", "notes.txt", "90.1251.tmp", "100", "-1.5"):
        (tmp_path / name).touch()
    assert newest(tmp_path) == tmp_path / "90.1251"


def test_a_folder_without_checkpoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint of cuda-convnet"):
        newest(tmp_path)
