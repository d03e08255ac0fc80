"""A Python 2 pickle of arrays and plain values, read without running anything that is in it.

Whatever the pickle names is replaced by one of the stand-ins below, which only keep or drop
what they are given; a name that has none is refused. Not even numpy sees the pickle's contents.
"""

import io
import math
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray


def unpickled(data: bytes) -> Any:
    """Strings are latin-1, arrays are PickledArray. A damaged pickle raises almost anything."""
    return _Unpickler(io.BytesIO(data), fix_imports=False, encoding="latin1").load()


class PickledArray:
    """An array as it was written, not yet looked at."""

    def __init__(self, *_: object):
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def numpy(self) -> NDArray[Any]:
        """The floating point numbers in their shape; ValueError when that is not what is there."""
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
    """numpy.dtype: what the numbers of an array are."""

    def __init__(self, code: object = "", *_: object):
        self.code = f"<{code}" if isinstance(code, str) else ""

    def __setstate__(self, state: object) -> None:
        match state:
            case (_, ">", *_):
                self.code = f">{self.code[1:]}"


class _Text(str):
    """What Python 3 writes for the bytes of an array: their text and the name latin1."""

    __slots__ = ()

    def __new__(cls, text: str, *_: object) -> "_Text":
        return super().__new__(cls, text)

    def __setstate__(self, state: object) -> None:
        pass


class _Dict(dict[Any, Any]):
    """OrderedDict, whose order is that of any dict today."""

    def __setstate__(self, state: object) -> None:
        pass


class _Dropped:
    """What the importer does not need: options of the program's command line, scalars."""

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
    "numpy.core.multiarray.scalar": _Dropped,
    "numpy._core.multiarray.scalar": _Dropped,
    "_codecs.encode": _Text,
    "collections.OrderedDict": _Dict,
    "ordereddict.OrderedDict": _Dict,
    "copy_reg._reconstructor": _Dropped,
    "__builtin__.object": _Dropped,
}


class _Unpickler(pickle._Unpickler):
    """The one written in Python: the other's table of seen objects is as long as a pickle says.

    For the same reason without the instructions that came after Python 2's protocol: one of them
    sets aside whatever memory it is told to.
    """

    dispatch: ClassVar[dict[int, Callable[[pickle.Unpickler], None]]] = {
        code: run for code, run in pickle._Unpickler.dispatch.items() if code <= ord(pickle.LONG4)
    }

    def find_class(self, module: str, name: str) -> type:
        if module == "options":
            return _Dropped
        try:
            return _STAND_INS[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is refused") from None
