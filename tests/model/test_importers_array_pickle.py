"""Hostile pickles: code in them is never run, wherever it is hidden."""

import os
import pickle
import sys
import tracemalloc
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexnet.labels import Labels
from training.checkpoint import CheckpointError
from training.importers import load_model
from training.importers.array_pickle import PickledArray, unpickle


class OptionsParser:
    """Stands in for the class that the original pickles along with the layers."""

    def __init__(self, value: object):
        self.options = {"layer_def": value}


@pytest.fixture(autouse=True)
def options(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("options")
    monkeypatch.setattr(OptionsParser, "__module__", "options")
    monkeypatch.setattr(module, "OptionsParser", OptionsParser, raising=False)
    monkeypatch.setitem(sys.modules, "options", module)


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    path = tmp_path / "classes.txt"
    path.write_text("\n".join(label.synset for label in Labels.imagenet().rows))
    return path


def refusal(path: Path, classes: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_model(path, classes)
    message = str(caught.value)
    assert "\n" not in message
    return message


class Exploit:
    """Unpickling it with pickle.loads runs `function(argument)`."""

    def __init__(self, function: Any, argument: str):
        self.function, self.argument = function, argument

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return self.function, (self.argument,)


class WithState:
    """Pickles as a call `make(*arguments)` and a `state` to set on its result."""

    def __init__(self, make: Any, arguments: tuple[Any, ...], state: Any):
        self.reduced = make, arguments, state

    def __reduce__(self) -> Any:
        return self.reduced


def in_object_array(evil: Any) -> Any:
    array = np.empty(2, object)
    array[1] = {"deep": [evil]}
    return array


HIDING_PLACES: dict[str, Callable[[Any], Any]] = {
    "as the whole": lambda evil: evil,
    "among the layers": lambda evil: {"model_state": {"layers": [evil]}},
    "in an object array": in_object_array,
    "in the options": lambda evil: {"op": OptionsParser(evil)},
    "as an argument": lambda evil: WithState(OptionsParser, (evil,), None),
    "as a state": lambda evil: WithState(OptionsParser, (1,), {"__setstate__": evil}),
    "as a slot": lambda evil: WithState(OptionsParser, (1,), (None, {"__class__": evil})),
}


@pytest.mark.parametrize("place", HIDING_PLACES)
@pytest.mark.parametrize("function", [os.system, eval], ids=["system", "eval"])
def test_a_pickle_that_runs_code_is_refused(
    tmp_path: Path, classes: Path, function: Any, place: str
) -> None:
    marker = tmp_path / "ran"
    code = f"touch '{marker}'" if function is os.system else f"open({str(marker)!r}, 'w').close()"
    evil = Exploit(function, code)
    pickle.loads(pickle.dumps(evil, protocol=2))
    assert marker.exists(), "this pickle runs nothing at all"
    marker.unlink()
    path = tmp_path / "1.1"
    path.write_bytes(pickle.dumps(HIDING_PLACES[place](evil), protocol=2))
    assert refusal(path, classes).endswith(
        f"it names {'posix.system' if function is os.system else '__builtin__.eval'}, "
        "which is refused"
    )
    assert not marker.exists()


@pytest.mark.parametrize(
    "instructions",
    [
        b"cos\nsystem\n",
        b"(ios\nsystem\n",
        b"cnumpy.core.multiarray\nscalar.__init__\n",
        b"cnumpy\nload\n",
        b"cbuiltins\neval\n",
        b"c__builtin__\ngetattr\n",
        b"ccopy_reg\n_reconstruct\n",
        b"coptions.os\nsystem\n",
        b"ctraining.importers.array_pickle\nPickledArray\n",
    ],
)
def test_every_name_that_is_not_listed_is_refused(
    tmp_path: Path, classes: Path, instructions: bytes
) -> None:
    path = tmp_path / "1.1"
    path.write_bytes(b"\x80\x02" + instructions + b".")
    assert "which is refused" in refusal(path, classes)


@pytest.mark.parametrize(
    "instructions",
    [
        b"cnumpy\nndarray\n}U\x0c__setstate__K\x01sb.",  # a state for the class itself
        b"cnumpy\nndarray\nN}U\x0c__setstate__K\x01s\x86b.",
        b"coptions\nos\n}U\x0c__setstate__K\x01sb.",
        b"(coptions\nOption\no}U\x0c__setstate__K\x01sbK\x01b.",
        b"coptions\nsystem\nU\x04true\x85R.",
        b"coptions\nsystem\n)\x81}U\x08__call__coptions\nx\nsb)R.",
        b"c_codecs\nencode\nU\x01a\x85R}U\x0c__setstate__K\x01sb.",
        b"(U\x01aU\x01bo.",
        b"U\x01aU\x01b\x85R.",
    ],
)
def test_a_stand_in_does_nothing_and_cannot_be_changed(
    tmp_path: Path, classes: Path, instructions: bytes
) -> None:
    before = dict(vars(PickledArray))
    path = tmp_path / "1.1"
    path.write_bytes(b"\x80\x02" + instructions)
    assert refusal(path, classes).startswith(f"{path} is no checkpoint of cuda-convnet: ")
    assert dict(vars(PickledArray)) == before


@pytest.mark.parametrize(
    "instructions",
    [
        b"]r\xff\xff\xff\x00.",  # memo index 16,777,215
        b"\x96\xff\xff\xff\x07\x00\x00\x00\x00.",  # a bytearray of 128 MiB
        b"T\xff\xff\xff\x7f.",
        b"(" * 1000 + b".",
    ],
)
def test_a_pickle_cannot_make_the_reader_allocate_memory(
    tmp_path: Path, classes: Path, instructions: bytes
) -> None:
    path = tmp_path / "1.1"
    path.write_bytes(b"\x80\x02" + instructions)
    tracemalloc.start()
    refusal(path, classes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_unneeded_values_are_discarded() -> None:
    contents = {"op": OptionsParser(3), "epsW": np.float64(0.01), "d": OrderedDict(b=[1], a="x")}
    read = unpickle(pickle.dumps(contents, protocol=2))
    assert read["d"] == {"b": [1], "a": "x"}
    assert not hasattr(read["op"], "options")
    old_style = unpickle(b"\x80\x02(coptions\nOption\noq\x01}U\x04nameU\x01xsb.")
    assert type(old_style) is type(read["op"])


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_unchanged(order: Any, dtype: str) -> None:
    array = np.array([[1.5, -2, 3], [4, 5, 1e9]], dtype, order=order)
    read = unpickle(pickle.dumps({"a": [array]}, protocol=2))["a"][0].numpy()
    np.testing.assert_array_equal(read, array, strict=False)
    assert (read.dtype.kind, read.dtype.itemsize, read.dtype.isnative) == (
        "f",
        array.itemsize,
        True,
    )


@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        ((1, (3,), np.dtype("f4"), False, b"\x00" * 8), r"holds 2 numbers, its shape says \(3,\)"),
        ((1, (2**40,), np.dtype("f4"), False, b"\x00" * 8), "holds 2 numbers"),
        ((1, (-2,), np.dtype("f4"), False, b"\x00" * 8), "is damaged"),
        ((1, ([2],), np.dtype("f4"), False, b"\x00" * 8), "is damaged"),
        ((1, (1, 1, 1, 1, 2), np.dtype("f4"), False, b"\x00" * 8), "is damaged"),
        ((1, (2,), np.dtype("f4"), False, b"\x00" * 7), "multiple of element size"),
        ((1, (2,), np.dtype("f4"), False, "\u1234" * 8), "can't encode"),
        ((1, (2,), np.dtype("f4"), False, None), "is damaged"),
        ((1, (2,), np.dtype("i4"), False, b"\x00" * 8), "no array of floating point numbers"),
        ((1, (1,), np.dtype("O"), False, [3]), "no array of floating point numbers"),
        ((1, (2,), "f4", False, b"\x00" * 8), "no array of floating point numbers"),
        ((1, 2, np.dtype("f4"), False, b"\x00" * 8), "no array of floating point numbers"),
        (3, "no array of floating point numbers"),
        (None, "no array of floating point numbers"),
    ],
)
def test_an_inconsistent_array_is_refused(state: Any, complaint: str) -> None:
    made: Any = np.zeros(2, "f").__reduce__()
    array = unpickle(pickle.dumps(WithState(made[0], made[1], state), protocol=2))
    with pytest.raises(ValueError, match=complaint):
        array.numpy()
