"""A pickle of torch is read once without torch: what could keep torch busy for ever is refused.

torch's own reader, with `weights_only`, runs no code of the file, but hashes any key: a tuple that
shares its parts 60 levels deep is 2^60 of them, and one that is a million levels deep ends the
process.
"""

import io
import zipfile
from pathlib import Path
from typing import Any

from training.importers.array_pickle import Discarded, PlainKeys

MAX_BYTES = 4 << 20  # a network of 200 tensors has 20 kB beside its numbers
PICKLES_OF_OLD = 5  # a magic number, a version, facts of the system, the content, names of storages


def rehearse(path: Path) -> None:
    """Raises almost anything for a file that torch must not be given."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            pickles = io.BytesIO(file.read(MAX_BYTES))
        for _ in range(PICKLES_OF_OLD):
            _Rehearsal(pickles, fix_imports=False, encoding="latin1").load()
        return
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith("data.pkl"):
                if member.file_size > MAX_BYTES:
                    raise ValueError(f"its pickle has {member.file_size:,} bytes")
                data = io.BytesIO(archive.read(member))
                _Rehearsal(data, fix_imports=False, encoding="latin1").load()


class _Rehearsal(PlainKeys):
    def find_class(self, module: str, name: str) -> type:
        return _Dict if name == "OrderedDict" else Discarded

    def persistent_load(self, pid: Any) -> None:
        """The numbers of a tensor."""


class _Dict(dict[Any, Any]):
    def __setstate__(self, state: object) -> None:
        pass
