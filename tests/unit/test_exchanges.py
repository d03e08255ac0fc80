"""A version that was exchanged is gone at once, and its memory with it."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from weakref import ref

import pytest
from prometheus_client import CollectorRegistry

from server.engines.choice import Wanted
from server.models.opener import Opener
from server.models.policy import VersionPolicy
from server.models.repository import Repository
from server.scheduler.batcher import BatchPolicy
from server.scheduler.decoder import Decoder
from server.telemetry.metrics import Metrics
from tests.bundles import grey_bundle

MB = 1 << 20


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    """It would free what refers to itself, at some time, and so hide it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Repository]:
    """The versions in the folder, opened as the server does."""
    decoder = Decoder(1, 1_000_000, 1)
    wanted = Wanted(max_batch_size=2, cache_dir=folder / "costs")
    opener = Opener(wanted, BatchPolicy(2), decoder, Metrics(CollectorRegistry()))
    repository = Repository(folder, VersionPolicy(), opener.open)
    await repository.load()
    try:
        yield repository
    finally:
        await repository.close()
        decoder.close()


async def load(repository: Repository) -> None:
    await repository.load()
    while repository._closing:
        await asyncio.gather(*repository._closing)
        await asyncio.sleep(0)  # the tasks take themselves off the list


@pytest.mark.parametrize("number", ["1", "2"], ids=["the same number", "the next number"])
async def test_nothing_of_a_version_outlives_its_exchange(tmp_path: Path, number: str) -> None:
    grey_bundle().write(tmp_path / "1")
    async with serving(tmp_path) as repository:
        old = repository.pick()
        parts = [old, old.model, old.model.bundle, old.model.engine, old.batcher, old.estimate]
        refs = {type(part).__name__: ref(part) for part in parts}
        del old, parts
        if number == "1":
            (tmp_path / "1" / "manifest.json").touch()
        else:
            grey_bundle().write(tmp_path / number)
        await load(repository)
        assert repository.pick().number == number
        async with asyncio.timeout(5):  # the thread that closed the engine lets go in a moment
            while left := [name for name, part in refs.items() if part() is not None]:
                await asyncio.sleep(0.01)
        assert left == []


async def test_memory_after_many_reloads_is_where_it_was_after_a_few(tmp_path: Path) -> None:
    """Each reload brings a model card of 8 MB: the 18 between them would be 144 MB."""
    grey_bundle(card=bytes(8 * MB)).write(tmp_path / "1")
    async with serving(tmp_path) as repository:
        resident: list[int] = []
        for _ in range(23):
            (tmp_path / "1" / "manifest.json").touch()
            await load(repository)
            resident.append(resident_bytes())
        # The least of a few: a thread may be about to let go of what it opened or closed.
        assert min(resident[-5:]) - min(resident[:5]) < 64 * MB


def resident_bytes() -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("this system does not say how much memory a process has")
    (line,) = (s for s in status.read_text().splitlines() if s.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024
