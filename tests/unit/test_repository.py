"""Versions come and go, and who asks never notices."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from server.models.model import Model
from server.models.version import Served

from alexnet.bundle import Bundle
from alexnet.manifest import BundleError
from server.errors import NotFound, NotReady
from server.models.policy import VersionPolicy
from server.models.repository import Entry, Repository, Source, sources
from server.scheduler.batcher import BatchPolicy
from server.scheduler.decoder import Decoder
from server.telemetry.metrics import Metrics
from tests.fakes import FakeEngine, flat_costs, tiny_bundle


class Versions:
    """A folder of versions whose bundles a fake engine serves."""

    def __init__(self, folder: Path, decoder: Decoder, metrics: Metrics):
        self.folder, self._decoder, self._metrics = folder, decoder, metrics
        self.opened: list[str] = []
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

    async def open(self, source: Source) -> Served:
        bundle = Bundle.open(source.path)
        if bundle.manifest.model.version == "bad":
            raise BundleError("the golden batch does not come out as trained")
        self.opened.append(source.version)
        self.engines.append(FakeEngine())
        model = Model(bundle, bundle.manifest.artifacts[0], "int8", (self.engines[-1],))
        policy = BatchPolicy(4)
        return Served(source.version, model, flat_costs(), self._decoder, policy, self._metrics)


@asynccontextmanager
async def repository(
    folder: Path, policy: str = "latest", **versions: str
) -> AsyncIterator[tuple[Repository, Versions]]:
    metrics = Metrics(CollectorRegistry())
    decoder = Decoder(1, 1_000_000, 1, metrics)
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


def served(repository: Repository) -> dict[str, str]:
    return {each.version: each.model.version for each in repository.served}


def test_versions_lie_as_folders_packed_or_packed_in_folders(tmp_path: Path) -> None:
    tiny_bundle().write(tmp_path / "1")
    tiny_bundle().write(tmp_path / "2.tar.xz")
    tiny_bundle().write(tmp_path / "10" / "any.tar.xz")
    for other in ("0", "01", "x", "3.zip"):
        (tmp_path / other).mkdir()
    found = sources(tmp_path)
    assert [source.version for source in found] == ["1", "2", "10"]
    assert all(Bundle.open(source.path) for source in found)


def test_a_version_that_is_there_twice_is_an_error(tmp_path: Path) -> None:
    tiny_bundle().write(tmp_path / "2")
    tiny_bundle().write(tmp_path / "2.tar.xz")
    with pytest.raises(BundleError, match="has version 2 twice"):
        sources(tmp_path)


def test_a_bundle_itself_is_version_one(tmp_path: Path) -> None:
    for name in ("bundle", "bundle.tar.xz"):
        tiny_bundle().write(tmp_path / name)
        assert [source.version for source in sources(tmp_path / name)] == ["1"]


def test_an_empty_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no model bundle, and no folder of versions"):
        sources(tmp_path)


async def test_the_policy_says_what_is_served(tmp_path: Path) -> None:
    async with repository(tmp_path, "latest", v1="a", v2="b") as (repo, _):
        assert served(repo) == {"2": "b"}
    async with repository(tmp_path, "all") as (repo, _):
        assert served(repo) == {"1": "a", "2": "b"}


async def test_a_new_version_takes_over_and_the_old_one_is_closed(tmp_path: Path) -> None:
    async with repository(tmp_path, v1="a") as (repo, versions):
        versions.add("2", "b")
        await repo.load()
        assert served(repo) == {"2": "b"}
        await asyncio.gather(*repo._closing)
        assert versions.opened == ["1", "2"]


async def test_what_has_not_changed_is_not_opened_again(tmp_path: Path) -> None:
    async with repository(tmp_path, "all", v1="a") as (repo, versions):
        versions.add("2", "b")
        await repo.load()
        await repo.load()
        assert versions.opened == ["1", "2"]


async def test_a_version_that_was_replaced_on_disk_is_exchanged(tmp_path: Path) -> None:
    async with repository(tmp_path, v1="a") as (repo, versions):
        versions.add("1", "b")
        await repo.load()
        assert served(repo) == {"1": "b"}


async def test_a_bad_version_changes_nothing_and_the_index_says_why(tmp_path: Path) -> None:
    async with repository(tmp_path, "all", v1="a") as (repo, versions):
        versions.add("2", "good")
        versions.add("3", "bad")
        with pytest.raises(BundleError, match="golden"):
            await repo.load()
        assert served(repo) == {"1": "a"}
        states = {entry.version: (entry.state, entry.reason) for entry in repo.index()}
        assert states["1"] == ("READY", "")
        assert states["2"][0] == "UNAVAILABLE"
        assert states["3"] == ("UNAVAILABLE", "the golden batch does not come out as trained")


async def test_a_served_version_that_is_replaced_by_a_bad_one_stays(tmp_path: Path) -> None:
    async with repository(tmp_path, v1="a") as (repo, versions):
        versions.add("1", "bad")
        with pytest.raises(BundleError):
            await repo.load()
        assert served(repo) == {"1": "a"}
        (entry,) = repo.index()
        assert entry.state == "READY"
        assert "golden" in entry.reason


async def test_versions_of_different_models_are_refused(tmp_path: Path) -> None:
    async with repository(tmp_path, "all", v1="a") as (repo, versions):
        versions.add("2", "b", name="other")
        with pytest.raises(BundleError, match="different models: other, tiny"):
            await repo.load()
        assert served(repo) == {"1": "a"}


async def test_unloaded_it_is_not_ready_until_it_is_loaded(tmp_path: Path) -> None:
    async with repository(tmp_path, v1="a") as (repo, _):
        await repo.unload()
        with pytest.raises(NotReady, match="no version of tiny is loaded"):
            repo.pick()
        await repo.load()
        assert repo.pick().version == "1"


async def test_who_names_a_version_gets_it_or_is_told_which_there_are(tmp_path: Path) -> None:
    async with repository(tmp_path, "all", v1="a", v2="b") as (repo, _):
        assert repo.pick("1").version == "1"
        assert repo.pick().version == "2"
        with pytest.raises(NotFound, match="'7' of tiny is not served: 1, 2 are"):
            repo.pick("7")


async def test_who_is_being_answered_keeps_the_old_version_open(tmp_path: Path) -> None:
    async with repository(tmp_path, v1="a") as (repo, versions):
        old = repo.pick()
        with old.in_use():
            versions.add("2", "b")
            await repo.load()
            assert repo.pick().version == "2"
            (closing,) = repo._closing
            assert not closing.done()
        await closing


async def test_polling_finds_what_is_new_and_survives_what_is_bad(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with repository(tmp_path, v1="a") as (repo, versions):
        polling = asyncio.create_task(repo.poll(0.01))
        versions.add("2", "bad")
        async with asyncio.timeout(5):
            while "golden" not in caplog.text:
                await asyncio.sleep(0.01)
        versions.add("3", "c")
        async with asyncio.timeout(5):
            while served(repo) != {"3": "c"}:
                await asyncio.sleep(0.01)
        polling.cancel()
        assert caplog.text.count("golden") == 1, "it is not said again at every look"


async def test_files_that_went_away_leave_the_index_with_what_is_served(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    async with repository(folder, v1="a") as (found, _):
        folder.rename(tmp_path / "away")
        assert found.index() == [Entry("1", "READY")]


async def test_a_version_that_failed_and_went_away_leaves_the_index(tmp_path: Path) -> None:
    async with repository(tmp_path, v1="a") as (found, versions):
        versions.add("2", "bad")
        with pytest.raises(BundleError):
            await found.load()
        assert [entry.version for entry in found.index()] == ["1", "2"]
        (tmp_path / "2").rename(tmp_path / "bad")
        await found.load()
        assert found.index() == [Entry("1", "READY")]


async def test_a_version_that_was_seen_half_copied_is_served_once_it_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its manifest came first, and stays as it is: what follows is what makes the difference."""
    async with repository(tmp_path, v1="a") as (repo, _):
        polling = asyncio.create_task(repo.poll(0.01))
        tiny_bundle().write(tmp_path / "whole")
        (tmp_path / "2").mkdir()
        for name in ("manifest.json", "golden.npz", "card.md", "labels.tsv", "model.fake"):
            caplog.clear()
            shutil.copy2(tmp_path / "whole" / name, tmp_path / "2")
            async with asyncio.timeout(5):
                while "not served" not in caplog.text and served(repo) != {"2": "1"}:
                    await asyncio.sleep(0.01)
            if name == "manifest.json":
                assert served(repo) == {"1": "a"}
        assert served(repo) == {"2": "1"}
        polling.cancel()


async def test_who_was_opened_and_given_up_again_is_no_news_to_the_metrics(tmp_path: Path) -> None:
    async with repository(tmp_path, "all", v1="a") as (repo, versions):

        def told() -> dict[tuple[str, ...], float]:
            """By build or stage, and version."""
            return {
                (labels.get("build") or labels["stage"], labels["version"]): sample.value
                for family in versions._metrics.registry.collect()
                for sample in family.samples
                if sample.name in ("alexnet_model_info", "alexnet_costmodel_drift_ratio")
                for labels in [sample.labels]
            }

        repo.pick("1").forecast.pace = 3.0
        before = told()
        assert before == {
            ("a", "1"): 1, ("decode", "1"): 1, ("infer", "1"): 1, ("pace", "1"): 3,
        }  # fmt: skip
        versions.add("1", "b")
        versions.add("2", "bad")
        with pytest.raises(BundleError):
            await repo.load()
        assert versions.opened == ["1", "1"]
        assert told() == before
        versions.add("2", "c")
        await repo.load()
        await asyncio.gather(*repo._closing)
        after = told()
        assert (after["a", "1"], after["b", "1"], after["c", "2"]) == (0, 1, 1)
        assert (after["pace", "1"], after["pace", "2"]) == (1, 1)
        versions.add("3", "d")
        await repo.load()
        after |= told()
        assert (after["a", "1"], after["b", "1"], after["c", "2"], after["d", "3"]) == (0, 1, 1, 1)


async def test_what_else_lies_in_a_bundles_folder_is_nobodys_business(tmp_path: Path) -> None:
    async with repository(tmp_path, v1="a") as (found, versions):
        (tmp_path / "1" / ".#labels.txt").symlink_to("nobody@nowhere")
        (tmp_path / "1" / "notes.log").write_text("looked at it\n")
        await found.load()
        assert versions.opened == ["1"]
