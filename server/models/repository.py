"""The versions of the model: found on disk, proven, served, and exchanged under load.

    models/alexnet/1/          a bundle, as a directory
    models/alexnet/2.tar.xz    or packed
    models/alexnet/3/x.tar.xz  or packed in a directory of its own

A path to a bundle itself is a repository with version 1 in it.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from alexnet.bundle import MANIFEST
from alexnet.manifest import BundleError, Manifest
from server.errors import NotFound, NotReady
from server.models.policy import VersionPolicy
from server.scheduler.pipeline import Pipeline

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where a version lies, and a mark that changes when it does."""

    version: str
    path: Path
    mark: tuple[int, int]


@dataclass(frozen=True)
class Entry:
    """What the index says of a version; the states are Triton's."""

    version: str
    state: str
    reason: str = ""


Open = Callable[[Source, list[Pipeline]], Awaitable[Pipeline]]
"""Opens a version, beside those that serve meanwhile."""


class Repository:
    """Requests pick from a mapping that is replaced whole: no request ever sees half a change."""

    def __init__(self, path: Path, policy: VersionPolicy, open_version: Open):
        self.path, self._policy, self._open = path, policy, open_version
        self.name = ""
        self._served: Mapping[str, Pipeline] = {}
        self.served: list[Pipeline] = []
        """Lowest version first."""
        self._marks: dict[str, tuple[int, int]] = {}
        self._failures: dict[str, str] = {}
        self._changing = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._unloaded = False

    def pick(self, version: str = "") -> Pipeline:
        """Raises NotFound for a version that is not served, NotReady when none is."""
        if not self._served:
            raise NotReady(f"no version of {self.name} is loaded")
        if version:
            if version not in self._served:
                known = ", ".join(self._served)
                raise NotFound(
                    f"version {version[:20]!r} of {self.name} is not served: {known} are"
                )
            return self._served[version]
        names = list(self._served)
        if len(names) > 1:
            return self._served[self._policy.pick(names, random.random())]
        return self._served[names[0]]

    def index(self) -> list[Entry]:
        """Every version that is there, served or not."""
        try:
            found = [source.version for source in sources(self.path)]
        except (BundleError, OSError):  # keep serving when the files are gone
            found = []
        names = sorted({*found, *self._served, *self._failures}, key=int)
        return [self._entry(name) for name in names]

    async def load(self, only: Collection[str] | None = None) -> None:
        """Makes what is served what the policy wants of what is on disk, or `only` of these.

        New and changed versions are proven first and take over at once; a version that they replace
        answers the requests it has, and is closed. Raises BundleError when a version cannot be
        served: everything then stays as it was.
        """
        async with self._changing:
            found = await asyncio.to_thread(sources, self.path)
            wanted = self._policy.wanted([s for s in found if only is None or s.version in only])
            if not wanted:
                raise BundleError(f"{self.path} has no version that the policy wants to serve")
            opened: dict[str, Pipeline] = {}
            try:
                for source in wanted:
                    if self._marks.get(source.version) != source.mark:
                        opened[source.version] = await self._open_or_explain(source)
                self._check_name([*opened.values(), *self._served.values()])
            except BundleError:
                for served in opened.values():
                    await served.close()
                raise
            self._marks = {source.version: source.mark for source in wanted}
            there = {source.version for source in found}
            self._failures = {v: why for v, why in self._failures.items() if v in there}
            self._unloaded = False
            before = self._served
            self._exchange(
                {s.version: opened.get(s.version) or self._served[s.version] for s in wanted}
            )
            if self._served != before:
                log.info("served: %s", ", ".join(map(_describe, self.served)))

    async def unload(self) -> None:
        """Serves no version until the next load."""
        async with self._changing:
            self._marks, self._unloaded = {}, True
            self._exchange({})
            log.info("unloaded: nothing is served")

    async def poll(self, every_s: float) -> None:
        """Loads what has changed on disk, for ever; what cannot be served is logged once."""
        seen: set[tuple[str, tuple[int, int]]] = set()
        while True:
            await asyncio.sleep(every_s)
            try:
                wanted = self._policy.wanted(await asyncio.to_thread(sources, self.path))
                marks = {(source.version, source.mark) for source in wanted}
                if not self._unloaded and marks not in (seen, set(self._marks.items())):
                    seen = marks
                    await self.load()
            except (BundleError, OSError) as error:
                log.error("the new versions are not served: %s", error)

    async def close(self) -> None:
        """Returns when every engine is closed."""
        async with self._changing:
            self._exchange({})
        await asyncio.gather(*self._closing)

    async def _open_or_explain(self, source: Source) -> Pipeline:
        try:
            version = await self._open(source, self.served)
        except BundleError as error:
            self._failures[source.version] = str(error)
            raise
        self._failures.pop(source.version, None)
        return version

    def _check_name(self, versions: list[Pipeline]) -> None:
        names = sorted({version.model.name for version in versions})
        if len(names) != 1:
            raise BundleError(f"{self.path} has versions of different models: {', '.join(names)}")
        (self.name,) = names

    def _exchange(self, served: dict[str, Pipeline]) -> None:
        before, self._served = self._served, dict(sorted(served.items(), key=lambda v: int(v[0])))
        self.served = list(self._served.values())
        for new in served.values():
            if before.get(new.number) is not new:
                new.announce()
        for old in before.values():
            if served.get(old.number) is not old:
                task = asyncio.create_task(old.close(), name=f"close version {old.number}")
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    def _entry(self, version: str) -> Entry:
        if version in self._failures:
            state = "READY" if version in self._served else "UNAVAILABLE"
            return Entry(version, state, self._failures[version])
        if version in self._served:
            return Entry(version, "READY")
        return Entry(version, "UNAVAILABLE", "not loaded")


def sources(path: Path) -> list[Source]:
    """Every version at the path, lowest first; raises BundleError when there is none."""
    if path.is_file() or (path / MANIFEST).exists():
        return [Source("1", path, _mark(path))]
    if not path.is_dir():
        raise BundleError(f"there is no model bundle at {path}")
    found: dict[str, Source] = {}
    for child in sorted(path.iterdir()):
        version = child.name.removesuffix(".tar.xz")
        if version.isdecimal() and version == str(int(version)) and int(version) > 0:
            packed = sorted(child.glob("*.tar.xz")) if child.is_dir() else []
            bundle = packed[0] if len(packed) == 1 else child
            if version in found:
                raise BundleError(f"{path} has version {version} twice: {bundle.name} and another")
            found[version] = Source(version, bundle, _mark(bundle))
    if not found:
        raise BundleError(f"{path} is no model bundle, and no folder of versions such as {path}/1")
    return sorted(found.values(), key=lambda source: int(source.version))


def _mark(path: Path) -> tuple[int, int]:
    """Times and sizes of its files, added up: one that is still being copied differs."""
    files = [path]
    if path.is_dir():
        files = [path / MANIFEST]
        with suppress(BundleError, OSError, ValueError):  # opening it will say so
            manifest = Manifest.from_json(files[0].read_text())
            files += [path / entry.file for entry in manifest.entries]
    status = [file.stat() for file in files if file.exists()]
    return sum(s.st_mtime_ns for s in status), sum(s.st_size for s in status)


def _describe(version: Pipeline) -> str:
    return f"version {version.number} ({version.model.build})"
