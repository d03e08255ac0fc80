"""Photos from more than memory holds: folders and zips, tar shards, and Parquet, in their order."""

import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from alexnet_client.photos import SUFFIXES, Photo, photos_in

TARS = (".tar", ".tar.gz", ".tgz")
COLUMNS = ("image", "bytes", "jpg", "photo")
"""Of Parquet: bytes, or as in Hugging Face's datasets {bytes, path}."""
_ROWS = 64  # photos of a Parquet file that are read at once


def photos_of(name: str) -> Iterator[Photo]:
    """Every photo of a folder, zip, tar shard or Parquet file, or the one photo of a file.

    Raises ValueError for a source without photos, OSError for one that cannot be read.
    """
    path = Path(name)
    lower = name.lower()
    if lower.endswith(TARS) and not path.is_dir():
        yield from _in_tar(path)
    elif lower.endswith(".parquet"):
        files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        for file in files:
            yield from _in_parquet(file)
    elif path.is_dir() or lower.endswith(".zip"):
        yield from photos_in(path)
    else:
        yield Photo(name, path.read_bytes)


def _in_tar(path: Path) -> Iterator[Photo]:
    """One after the other, as a shard is written to be read."""
    try:
        with tarfile.open(path, "r|*") as shard:
            for member in shard:
                file = PurePosixPath(member.name)
                if not member.isfile() or file.suffix.lower() not in SUFFIXES:
                    continue
                stream = shard.extractfile(member)
                image = stream.read() if stream else b""
                yield Photo(f"{path}!{member.name}", lambda image=image: image)  # type: ignore[misc]
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def _in_parquet(path: Path) -> Iterator[Photo]:
    """Named by the path of a row, or by its number."""
    parquet = pyarrow_parquet()
    with parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        column = next((c for c in COLUMNS if c in names), None)
        if column is None:
            wanted = ", ".join(COLUMNS)
            raise ValueError(f"{path} has no column of photos ({wanted}), but {', '.join(names)}")
        number = 0
        for batch in file.iter_batches(_ROWS, columns=[column]):
            for value in batch.column(0).to_pylist():
                row = value if isinstance(value, dict) else {"bytes": value}
                image = row.get("bytes")
                if not isinstance(image, bytes):
                    raise ValueError(f"{path}: column {column} of row {number} has no bytes")
                yield Photo(f"{path}!{row.get('path') or number}", lambda image=image: image)  # type: ignore[misc]
                number += 1


def pyarrow_parquet() -> Any:
    """The module; raises ValueError that says how to get it."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise ValueError(
            "Parquet needs pyarrow, which is not installed: pip install pyarrow "
            "(the extra `bulk` of alexnet-client)"
        ) from None
    return parquet
