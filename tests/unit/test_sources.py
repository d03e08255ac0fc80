"""Versions on disk that are not yet there, or not to be read: none keeps another back."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from alexnet.manifest import BundleError
from server.models.repository import Entry
from server.models.sources import sources
from tests.fakes import tiny_bundle
from tests.repositories import repository


def unreadable(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """As for a user who may not: root, which tests may run as, always may."""
    iterdir = Path.iterdir

    def refuse(path: Path) -> Iterator[Path]:
        if path in paths:
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)


@pytest.mark.parametrize("policy", ["latest", "all"])
async def test_an_unreadable_version_keeps_no_other_back_and_the_index_names_it(
    policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for version in ("1", "5"):
        (tmp_path / version).mkdir()
    unreadable(monkeypatch, tmp_path / "1", tmp_path / "5")
    async with repository(tmp_path, policy, v2="a") as (repo, versions):
        versions.add("3", "b")
        await repo.load()
        assert repo.served[-1].number == "3"
        why = f"{tmp_path / '1'} cannot be read: Permission denied"
        assert (await repo.index())[0] == Entry("1", "UNAVAILABLE", why)
        assert caplog.text.count(why) == 1, "it is not said again at every look"


async def test_a_served_version_that_cannot_be_read_any_more_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with repository(tmp_path, v1="a") as (repo, _):
        unreadable(monkeypatch, tmp_path / "1")
        await repo.load()
        (entry,) = await repo.index()
        assert (entry.state, entry.reason) == (
            "READY", f"{tmp_path / '1'} cannot be read: Permission denied"
        )  # fmt: skip


async def test_an_empty_folder_is_no_version_yet_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with repository(tmp_path, v1="a") as (repo, versions):
        (tmp_path / "2").mkdir()
        polling = asyncio.create_task(repo.poll(0.005))
        for version, build in (("3", "b"), ("4", "c"), ("5", "d")):
            versions.add(version, build)
            async with asyncio.timeout(5):
                while repo.served[-1].number != version:
                    await asyncio.sleep(0.005)
        assert caplog.text.count("version 2 is passed over") == 1
        assert Entry("2", "UNAVAILABLE", f"{tmp_path / '2'} is empty") in await repo.index()
        polling.cancel()


async def test_where_nothing_can_be_read_the_error_says_why(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    with pytest.raises(BundleError, match="7 is empty"):
        async with repository(tmp_path):
            pass


@pytest.mark.parametrize("packed", [False, True])
def test_versions_that_are_equal_in_size_and_time_differ(packed: bool, tmp_path: Path) -> None:
    marks, bundle = [], tiny_bundle()
    for build in "ab":
        path = tmp_path / build / ("1.tar.xz" if packed else "1")
        manifest = replace(bundle.manifest, model=replace(bundle.manifest.model, version=build))
        replace(bundle, manifest=manifest).write(path)
        for file in [path, *path.iterdir()] if path.is_dir() else [path]:
            os.utime(file, ns=(0, 0))
        marks.append(sources(path.parent)[0].mark)
    assert marks[0] != marks[1]
    assert marks[0].split()[:1] == marks[1].split()[:1]


async def test_a_folder_that_is_gone_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    async with repository(folder, v1="a") as (repo, versions):
        polling = asyncio.create_task(repo.poll(0.005))
        folder.rename(tmp_path / "away")
        async with asyncio.timeout(5):
            while "no model bundle" not in caplog.text:
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)  # some twenty looks
        assert caplog.text.count("no model bundle") == 1
        (tmp_path / "away").rename(folder)
        versions.add("2", "b")
        async with asyncio.timeout(5):
            while repo.served[-1].number != "2":
                await asyncio.sleep(0.005)
        polling.cancel()
