"""What several tests of networks need."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from export.evaluate import main
from tests.fakes import flat

Evaluate = Callable[..., str]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """64 hidden units instead of 4096: a sixtieth of the weights, not worth a second thread."""
    monkeypatch.setattr("training.network.HIDDEN", 64)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """alexnet-evaluate with these arguments -> what it prints; raises SystemExit if it fails."""

    def evaluate(*arguments: object) -> str:
        monkeypatch.setattr("sys.argv", ["alexnet-evaluate", *map(str, arguments)])
        main()
        return capsys.readouterr().out

    return evaluate


def greys(folder: Path, **photos: list[int]) -> Path:
    """Grey photos in class folders; the fake server takes a grey for class `s{grey // 25}`."""
    for name, values in photos.items():
        (folder / name).mkdir(parents=True)
        for i, value in enumerate(values):
            (folder / name / f"{i}.png").write_bytes(flat(value))
    return folder


async def served(evaluate: Evaluate, *arguments: object) -> str:
    """What the command prints, or its last words; meanwhile this thread's loop serves."""

    def call() -> str:
        try:
            return evaluate(*arguments)
        except SystemExit as end:
            return str(end.code)

    return await asyncio.to_thread(call)
