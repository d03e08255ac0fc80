"""Answers to many photos in a file that a later run goes on with: JSON lines or Parquet."""

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

from alexnet_client.errors import ClassifyError
from alexnet_client.results import Classification
from alexnet_client.sources import pyarrow_parquet

PART_ROWS = 10_000
"""Rows of a part of Parquet, which is written at once: an interrupted run loses so many answers."""
ROW = b'{"file": '
"""How a line of answers begins."""


def row(name: str, answer: Classification | ClassifyError) -> dict[str, Any]:
    """What is written of the photo `name`: its classes, or why it has none."""
    failure = answer if isinstance(answer, ClassifyError) else None
    answered = answer if isinstance(answer, Classification) else None
    predictions = answered.predictions if answered else ()
    return {
        "file": name,
        "labels": [p.label for p in predictions],
        "synsets": [p.synset for p in predictions],
        "probabilities": [round(p.probability, 6) for p in predictions],
        "model": f"{answered.model.name} {answered.model.build}" if answered else None,
        "error": str(failure) if failure else None,
    }


class Answers(Protocol):
    """Where rows go; each has a `file`, the name of its photo."""

    def __contains__(self, name: str) -> bool:
        """Whether the file has an answer to this photo."""

    def __len__(self) -> int: ...

    def add(self, row: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


def open_answers(path: Path) -> Answers:
    """`.jsonl`: a file of lines; `.parquet`: a folder of parts. Raises ValueError, OSError."""
    if path.suffix == ".jsonl":
        return JsonLines(path)
    if path.suffix == ".parquet":
        return ParquetParts(path)
    raise ValueError(f"{path}: answers are written to a .jsonl or a .parquet")


class _Names:
    """Of photos, eight bytes each: of ten million they take half a gigabyte less."""

    def __init__(self) -> None:
        self._hashes: set[bytes] = set()

    def __contains__(self, name: str) -> bool:
        return self._hash(name) in self._hashes

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, name: str) -> None:
        self._hashes.add(self._hash(name))

    @staticmethod
    def _hash(name: str) -> bytes:
        return blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()


class JsonLines:
    def __init__(self, path: Path) -> None:
        self._names = _Names()
        self._file = path.open("a+b")
        self._file.seek(0)
        whole = 0
        for line in self._file:
            cut_off = not line.endswith(b"\n")  # when the last run ended
            try:
                self._names.add(json.loads(line)["file"])
            except (ValueError, KeyError, TypeError):
                if cut_off and ROW.startswith(line[: len(ROW)]):
                    break
                self._file.close()
                raise ValueError(f"{path} holds something else than answers") from None
            whole += len(line)
            if cut_off:
                whole += self._file.write(b"\n")
        self._file.truncate(whole)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    def add(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row).encode() + b"\n")
        self._names.add(row["file"])

    def close(self) -> None:
        self._file.close()


class ParquetParts:
    def __init__(self, folder: Path) -> None:
        self._parquet, self._folder, self._names = pyarrow_parquet(), folder, _Names()
        folder.mkdir(parents=True, exist_ok=True)
        self._parts = sorted(folder.glob("part-*.parquet"))
        for part in self._parts:
            for batch in self._parquet.ParquetFile(part).iter_batches(columns=["file"]):
                for name in batch.column(0).to_pylist():
                    self._names.add(name)
        self._rows: list[dict[str, Any]] = []
        self._count = len(self._parts)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        self._names.add(row["file"])
        if len(self._rows) >= PART_ROWS:
            self._write()

    def close(self) -> None:
        if self._rows:
            self._write()

    def _write(self) -> None:
        """Renamed when it is whole."""
        import pyarrow

        path = self._folder / f"part-{self._count:06}.parquet"
        unfinished = path.with_suffix(".unfinished")
        self._parquet.write_table(pyarrow.Table.from_pylist(self._rows, _schema()), unfinished)
        unfinished.replace(path)
        self._count += 1
        self._rows = []


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            ("file", pa.string()),
            ("labels", pa.list_(pa.string())),
            ("synsets", pa.list_(pa.string())),
            ("probabilities", pa.list_(pa.float32())),
            ("model", pa.string()),
            ("error", pa.string()),
        ]
    )
