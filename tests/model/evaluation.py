"""alexnet-evaluate, asked in this process, and photos whose class the fake server sees."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from tests.fakes import flat

Evaluate = Callable[..., str]


def greys(folder: Path, **photos: list[int]) -> Path:
    """Grey photos in class folders; the fake server takes a grey for class `s{grey // 25}`."""
    for name, values in photos.items():
        (folder / name).mkdir(parents=True)
        for i, value in enumerate(values):
            (folder / name / f"{i}.png").write_bytes(flat(value))
    return folder


async def in_thread(evaluate: Evaluate, *arguments: object) -> str:
    """What the command prints, or its last words; meanwhile this thread's loop serves."""

    def call() -> str:
        try:
            return evaluate(*arguments)
        except SystemExit as end:
            return str(end.code)

    return await asyncio.to_thread(call)
