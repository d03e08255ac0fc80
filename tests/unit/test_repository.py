"""Versions come and go, and no request notices."""

import asyncio
import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from alexnet.bundle import Bundle
from alexnet.manifest import BundleError
from server.errors import NotFound, NotReady
from server.models.repository import Entry, Repository
from server.models.sources import sources
from tests.fakes import tiny_bundle
from tests.repositories import repository


def served(repository: Repository) -> dict[str, str]:
    return {each.number: each.model.build for each in repository.served}


def test_versions_lie_as_folders_packed_or_packed_in_folders(tmp_path: Path) -> None:
    tiny_bundle().write(tmp_path / "1")
    tiny_bundle().write(tmp_path / "2.tar.xz")
    tiny_bundle().write(tmp_path / "10" / "any.tar.xz")
    for other in ("0", "01", "x", "3.zip"):
        (tmp_path / other).mkdir()
    found = sources(tmp_path)
    assert [source.version for source in found] == ["1", "2", "10"]
    assert all(Bundle.open(source.path) for source in found)


def test_a_version_that_is_there_twice_is_passed_over(tmp_path: Path) -> None:
    for name in ("1", "2", "2.tar.xz"):
        tiny_bundle().write(tmp_path / name)
    first, second = sources(tmp_path)
    assert not first.problem
    assert "has version 2 twice: 2 and 2.tar.xz" in second.problem


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
        assert versions.beside == [[], ["1"]]


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
        states = {entry.version: (entry.state, entry.reason) for entry in await repo.index()}
        assert states["1"] == ("READY", "")
        assert states["2"][0] == "UNAVAILABLE"
        assert states["3"] == ("UNAVAILABLE", "the golden batch does not come out as trained")


async def test_a_served_version_that_is_replaced_by_a_bad_one_stays(tmp_path: Path) -> None:
    async with repository(tmp_path, v1="a") as (repo, versions):
        versions.add("1", "bad")
        with pytest.raises(BundleError):
            await repo.load()
        assert served(repo) == {"1": "a"}
        (entry,) = await repo.index()
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
        assert repo.pick().number == "1"


async def test_a_version_that_is_named_is_picked_or_the_error_says_which_there_are(
    tmp_path: Path,
) -> None:
    async with repository(tmp_path, "all", v1="a", v2="b") as (repo, _):
        assert repo.pick("1").number == "1"
        assert repo.pick().number == "2"
        with pytest.raises(NotFound, match="'7' of tiny is not served: 1, 2 are"):
            repo.pick("7")


async def test_a_request_under_way_keeps_the_old_version_open(tmp_path: Path) -> None:
    async with repository(tmp_path, v1="a") as (repo, versions):
        old = repo.pick()
        old.users.count += 1
        versions.add("2", "b")
        await repo.load()
        assert repo.pick().number == "2"
        (closing,) = repo._closing
        done, _ = await asyncio.wait([closing], timeout=0.05)
        assert not done
        old.users.leave()
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


async def test_polling_serves_what_is_good_beside_what_is_bad(tmp_path: Path) -> None:
    """Whichever of them is the lower, and also where the bad one replaces what is served."""
    async with repository(tmp_path, "all", v3="a") as (repo, versions):
        versions.add("2", "bad")
        versions.add("3", "bad")
        versions.add("4", "d")
        (tmp_path / "5").mkdir()
        os.mkfifo(tmp_path / "5" / "manifest.json")
        (tmp_path / "6").mkdir()
        (tmp_path / "6" / "manifest.json").write_text("[" * 100_000)
        polling = asyncio.create_task(repo.poll(0.01))
        async with asyncio.timeout(5):
            while served(repo) != {"3": "a", "4": "d"}:
                await asyncio.sleep(0.01)
        assert {entry.version for entry in await repo.index() if entry.reason} == {
            "2",
            "3",
            "5",
            "6",
        }
        versions.add("2", "b")
        async with asyncio.timeout(5):
            while served(repo) != {"2": "b", "3": "a", "4": "d"}:
                await asyncio.sleep(0.01)
        polling.cancel()


async def test_polling_outlives_a_bug(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with repository(tmp_path, v1="a") as (repo, versions):

        def broken(path: Path) -> NoReturn:
            raise RecursionError

        with monkeypatch.context() as patch:
            patch.setattr("server.models.repository.sources", broken)
            polling = asyncio.create_task(repo.poll(0.01))
            async with asyncio.timeout(5):
                while "a bug kept new versions" not in caplog.text:
                    await asyncio.sleep(0.01)
        versions.add("2", "b")
        async with asyncio.timeout(5):
            while served(repo) != {"2": "b"}:
                await asyncio.sleep(0.01)
        polling.cancel()


async def test_files_that_went_away_leave_the_index_with_what_is_served(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    async with repository(folder, v1="a") as (found, _):
        folder.rename(tmp_path / "away")
        assert await found.index() == [Entry("1", "READY")]


async def test_a_version_that_failed_and_went_away_leaves_the_index(tmp_path: Path) -> None:
    async with repository(tmp_path, v1="a") as (found, versions):
        versions.add("2", "bad")
        with pytest.raises(BundleError):
            await found.load()
        assert [entry.version for entry in await found.index()] == ["1", "2"]
        (tmp_path / "2").rename(tmp_path / "bad")
        assert await found.index() == [Entry("1", "READY")]
        await found.load()
        assert await found.index() == [Entry("1", "READY")]


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


async def test_the_metrics_never_show_a_version_that_was_opened_and_given_up(
    tmp_path: Path,
) -> None:
    async with repository(tmp_path, "all", v1="a") as (repo, versions):

        def told() -> dict[tuple[str, ...], float]:
            """By build or stage, and version."""
            return {
                (labels.get("build") or labels["stage"], labels["version"]): sample.value
                for family in versions.metrics.registry.collect()
                for sample in family.samples
                if sample.name in ("alexnet_model_info", "alexnet_costmodel_drift_ratio")
                for labels in [sample.labels]
            }

        repo.pick("1").estimate.pace = 3.0
        before = told()
        assert before == {("a", "1"): 1, ("decode", "1"): 1, ("infer", "1"): 1, ("pace", "1"): 3}
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


async def test_a_version_has_not_changed_when_other_files_appear_in_its_folder(
    tmp_path: Path,
) -> None:
    async with repository(tmp_path, v1="a") as (found, versions):
        (tmp_path / "1" / ".#labels.txt").symlink_to("user@host")
        (tmp_path / "1" / "notes.log").write_text("looked at it\n")
        await found.load()
        assert versions.opened == ["1"]
