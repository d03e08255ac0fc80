"""Reads a Python 2 pickle of arrays and plain values without running any code in it.

Every name in the pickle is replaced by one of the stand-ins below, which only store or discard
their arguments; other names are refused. Not even numpy is given unchecked contents.
"""

import io
import math
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

KEYS = (str, int, float, bytes, type(None))


def unpickle(data: bytes) -> Any:
    """Strings are latin-1, arrays are PickledArray. A damaged pickle raises almost anything."""
    return _Unpickler(io.BytesIO(data), fix_imports=False, encoding="latin1").load()


class PickledArray:
    """An array as it was written, not yet validated."""

    def __init__(self, *_: object):
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def numpy(self) -> NDArray[Any]:
        """The floating point numbers in their shape; ValueError if it holds anything else."""
        match self.state:
            case (
                _,
                tuple() as shape,
                _Type(code="<f4" | "<f8" | ">f4" | ">f8" as code),
                order,
                raw,
            ):
                pass
            case _:
                raise ValueError("is no array of floating point numbers")
        sides_are_numbers = all(type(side) is int and side >= 0 for side in shape[:4])
        if not isinstance(raw, str) or not sides_are_numbers or len(shape) > 4:
            raise ValueError("is damaged")
        values = np.frombuffer(raw.encode("latin1"), code)
        if math.prod(shape) != len(values):
            raise ValueError(f"holds {len(values)} numbers, its shape says {shape}")
        native = values.dtype.newbyteorder("=")
        return values.astype(native).reshape(shape, order="F" if order else "C")


class _Type:
    """Stands in for numpy.dtype."""

    def __init__(self, code: object = "", *_: object):
        self.code = f"<{code}" if isinstance(code, str) else ""

    def __setstate__(self, state: object) -> None:
        match state:
            case (_, ">", *_):
                self.code = f">{self.code[1:]}"


class _Text(str):
    """Python 3 pickles the bytes of an array as text and the name of its encoding, latin1."""

    __slots__ = ()

    def __new__(cls, text: str, *_: object) -> "_Text":
        return super().__new__(cls, text)

    def __setstate__(self, state: object) -> None:
        pass


class _Dict(dict[Any, Any]):
    """Stands in for OrderedDict."""

    def __setstate__(self, state: object) -> None:
        pass


class Discarded:
    """Stands in for values that are not needed: command-line options, scalars."""

    __slots__ = ()

    def __init__(self, *_: object):
        pass

    def __setstate__(self, state: object) -> None:
        pass


_STAND_INS: dict[str, type] = {
    "numpy.ndarray": PickledArray,
    "numpy.core.multiarray._reconstruct": PickledArray,
    "numpy._core.multiarray._reconstruct": PickledArray,
    "numpy.dtype": _Type,
    "numpy.core.multiarray.scalar": Discarded,
    "numpy._core.multiarray.scalar": Discarded,
    "_codecs.encode": _Text,
    "collections.OrderedDict": _Dict,
    "ordereddict.OrderedDict": _Dict,
    "copy_reg._reconstructor": Discarded,
    "__builtin__.object": Discarded,
}


class PlainKeys(pickle._Unpickler):
    """The unpickler written in Python: the C one allocates a memo table of any size that the pickle
    names.

    Opcodes newer than Python 2's protocol are removed: one of them allocates any amount of memory.
    Keys are texts and numbers only: a tuple of tuples that are shared takes for ever to be hashed.
    """

    stack: list[Any]
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        code: run for code, run in pickle._Unpickler.dispatch.items() if code <= ord(pickle.LONG4)
    }

    def load_setitem(self) -> None:
        self._check_keys(self.stack[-2:-1])
        super().load_setitem()  # type: ignore[misc]

    def load_setitems(self) -> None:
        self._check_keys(self.stack[::2])  # since the mark
        super().load_setitems()  # type: ignore[misc]

    def load_dict(self) -> None:
        self._check_keys(self.stack[::2])
        super().load_dict()  # type: ignore[misc]

    def _check_keys(self, keys: list[Any]) -> None:
        if odd := [key for key in keys if not isinstance(key, KEYS)]:
            raise pickle.UnpicklingError(f"it has a {type(odd[0]).__name__} as a key")

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict


class _Unpickler(PlainKeys):
    def find_class(self, module: str, name: str) -> type:
        if module == "options":
            return Discarded
        try:
            return _STAND_INS[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is refused") from None
