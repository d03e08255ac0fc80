"""Model repositories: one of versions on disk, and a fake that notes each call."""

import os
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from prometheus_client import CollectorRegistry

from alexnet.bundle import Bundle
from alexnet.manifest import BundleError
from server.engines.model import Model
from server.models.policy import VersionPolicy
from server.models.repository import Entry, Repository
from server.models.sources import Source
from server.scheduler.batcher import BatchPolicy
from server.scheduler.decoder import Decoder
from server.scheduler.pipeline import Pipeline
from server.telemetry.metrics import Metrics
from tests.fakes import FakeEngine, flat_costs, tiny_bundle


class Versions:
    """A folder of versions that a fake engine serves."""

    def __init__(self, folder: Path, decoder: Decoder, metrics: Metrics):
        self.folder, self._decoder, self.metrics = folder, decoder, metrics
        self.opened: list[str] = []
        self.beside: list[list[str]] = []
        """The versions that served while each one was opened."""
        self.engines: list[FakeEngine] = []

    def add(self, version: str, build: str = "a", name: str = "tiny") -> None:
        bundle = tiny_bundle()
        model = replace(bundle.manifest.model, name=name, version=build)
        bundle = replace(bundle, manifest=replace(bundle.manifest, model=model))
        path = self.folder / version
        if path.exists():
            (path / "manifest.json").write_text(bundle.manifest.to_json())
            status = path.stat()
            os.utime(path / "manifest.json", ns=(status.st_atime_ns, len(self.opened) + 1))
        else:
            bundle.write(path)

    async def open(self, source: Source, serving: list[Pipeline]) -> Pipeline:
        bundle = Bundle.open(source.path)
        if bundle.manifest.model.version == "bad":
            raise BundleError("the golden batch does not come out as trained")
        self.opened.append(source.version)
        self.beside.append([pipeline.number for pipeline in serving])
        self.engines.append(FakeEngine())
        model = Model(bundle, bundle.manifest.artifacts[0], "int8", (self.engines[-1],))
        policy = BatchPolicy(4)
        return Pipeline(source.version, model, flat_costs(), self._decoder, policy, self.metrics)


@asynccontextmanager
async def repository(
    folder: Path, policy: str = "latest", **versions: str
) -> AsyncIterator[tuple[Repository, Versions]]:
    metrics = Metrics(CollectorRegistry())
    decoder = Decoder(1, 1_000_000, 1)
    found = Versions(folder, decoder, metrics)
    for version, build in versions.items():
        found.add(version.removeprefix("v"), build)
    repository = Repository(folder, VersionPolicy(policy), found.open)
    await repository.load()
    try:
        yield repository, found
    finally:
        await repository.close()
        decoder.close()


class FakeRepository:
    """The test can break it."""

    name = "m"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.broken = ""

    async def index(self) -> list[Entry]:
        return [Entry("1", "READY"), Entry("2", "UNAVAILABLE", "not loaded")]

    async def load(self, only: Collection[str] | None = None) -> None:
        if self.broken:
            raise BundleError(self.broken)
        self.calls.append("load")

    async def reload(self) -> None:
        self.calls.append("reload")

    async def unload(self) -> None:
        self.calls.append("unload")
