"""The versions of the model: found on disk, proven, served, and exchanged under load.

What may lie on disk is in sources.py.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from alexnet.manifest import BundleError
from server.errors import Forbidden, NotFound, NotReady
from server.models.beside import ENDS_S, beside
from server.models.policy import VersionPolicy
from server.models.sources import Source, sources
from server.scheduler.pipeline import Pipeline

log = logging.getLogger(__name__)


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
        self._marks: dict[str, str] = {}
        self._failures: dict[str, str] = {}
        self._refused: set[tuple[str, str]] = set()
        """Versions, and their marks, that polling passes over."""
        self._problems: dict[str, str] = {}
        """Of versions that cannot be read; each is logged once."""
        self._indexing: asyncio.Future[list[Source]] | None = None
        self._changing = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._unloaded = False

    def pick(self, version: str = "", allowed: Collection[str] = ()) -> Pipeline:
        """One of those `allowed`, where any are named. Raises NotFound for a version that is not
        served, NotReady when none is, Forbidden."""
        if not self._served:
            raise NotReady(f"no version of {self.name} is loaded")
        if version:
            if version not in self._served:
                known = ", ".join(self._served)
                raise NotFound(
                    f"version {version[:20]!r} of {self.name} is not served: {known} are"
                )
            if allowed and version not in allowed:
                raise Forbidden(f"this key is not for version {version} of {self.name}")
            return self._served[version]
        names = [name for name in self._served if not allowed or name in allowed]
        if not names:
            raise Forbidden(f"this key is for no version of {self.name} that is served")
        if len(names) > 1:
            return self._served[self._policy.pick(names, random.random())]
        return self._served[names[0]]

    async def index(self) -> list[Entry]:
        """Every version that is there, served or not."""
        if self._indexing is None or self._indexing.done():  # one that hangs is enough
            self._indexing = asyncio.ensure_future(self._scan())
        found = dict.fromkeys(self._failures, "")
        # Keep serving when the files are gone, or cannot be reached.
        with suppress(BundleError, OSError, TimeoutError):
            async with asyncio.timeout(ENDS_S):
                scanned = await asyncio.shield(self._indexing)
            found = {source.version: source.problem for source in scanned}
        names = sorted({*found, *self._served}, key=int)
        return [self._entry(name, found.get(name, "")) for name in names]

    async def load(self, only: Collection[str] | None = None) -> None:
        """Makes what is served what the policy wants of what is on disk, or `only` of these.

        New and changed versions are proven first and take over at once; a version that they replace
        answers the requests it has, and is closed. Raises BundleError when a version cannot be
        served: everything then stays as it was.
        """
        async with self._changing:
            self._refused.clear()
            await self._load(only)

    async def reload(self) -> None:
        """`load`, unless it was asked to serve nothing."""
        if not self._unloaded:
            await self.load()

    async def _load(self, only: Collection[str] | None = None) -> None:
        found = await self._scan()
        self._note(found)
        there = {source.version for source in found}
        usable = [found_or_served for s in found if (found_or_served := self._usable(s))]
        wanted = self._policy.wanted([s for s in usable if only is None or s.version in only])
        if not wanted:
            why = "".join(f"; {problem}" for problem in self._problems.values())
            raise BundleError(f"{self.path} has no version that the policy wants to serve{why}")
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
        self._failures = {v: why for v, why in self._failures.items() if v in there}
        self._unloaded = False
        before = self._served
        self._exchange(
            {s.version: opened.get(s.version) or self._served[s.version] for s in wanted}
        )
        if self._served != before:
            log.info("served: %s", ", ".join(map(_describe, self.served)))

    def _usable(self, source: Source) -> Source | None:
        """None for what was refused, or cannot be read; where an older state of it is served, that
        one stays."""
        if not source.problem and (source.version, source.mark) not in self._refused:
            return source
        mark = self._marks.get(source.version)
        return replace(source, mark=mark, problem="") if mark else None

    async def _scan(self) -> list[Source]:
        return await beside(lambda: sources(self.path))

    def _note(self, found: Collection[Source]) -> None:
        before = self._problems
        self._problems = {source.version: source.problem for source in found if source.problem}
        for version, problem in self._problems.items():
            if before.get(version) != problem:
                log.warning("version %s is passed over: %s", version, problem)

    async def unload(self) -> None:
        """Serves no version until the next load."""
        async with self._changing:
            self._marks, self._unloaded = {}, True
            self._exchange({})
            log.info("unloaded: nothing is served")

    async def poll(self, every_s: float) -> None:
        """Loads what has changed on disk, for ever. What cannot be served is logged once, and
        passed over: it keeps no other version from being served."""
        seen: set[tuple[str, str]] = set()
        said = ""
        while True:
            await asyncio.sleep(every_s)
            try:
                found = await self._scan()
                self._note(found)
                usable = [u for source in found if (u := self._usable(source))]
                wanted = self._policy.wanted(usable)
                marks = {(source.version, source.mark) for source in wanted}
                if not self._unloaded and marks not in (seen, set(self._marks.items())):
                    seen = marks
                    async with self._changing:
                        await self._load_the_rest()
                said = ""
            except (BundleError, OSError) as error:
                if str(error) != said:
                    log.error("the new versions are not served: %s", error)
                said = str(error)
            except Exception:
                log.exception("a bug kept new versions from being served")

    async def _load_the_rest(self) -> None:
        """Every version that can be served; raises BundleError when none of them can, anew."""
        while True:
            refused = len(self._refused)
            try:
                return await self._load()
            except BundleError as error:
                if len(self._refused) == refused:  # it was not one version
                    raise
                log.error("the new versions are not served: %s", error)

    async def close(self) -> None:
        """Returns when every engine is closed."""
        try:
            async with asyncio.timeout(ENDS_S):
                await self._changing.acquire()
        except TimeoutError:
            log.warning("stopped while a version was still being read")
        self._exchange({})
        await asyncio.gather(*self._closing)

    async def _open_or_explain(self, source: Source) -> Pipeline:
        try:
            version = await self._open(source, self.served)
        except (BundleError, OSError) as error:
            self._failures[source.version] = str(error)
            self._refused.add((source.version, source.mark))
            raise BundleError(str(error)) from None
        self._failures.pop(source.version, None)
        return version

    def _check_name(self, versions: list[Pipeline]) -> None:
        names = sorted({version.model.bundle.manifest.model.name for version in versions})
        if len(names) != 1:
            raise BundleError(f"{self.path} has versions of different models: {', '.join(names)}")
        self.name = versions[0].model.name

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

    def _entry(self, version: str, problem: str) -> Entry:
        if why := problem or self._failures.get(version):
            state = "READY" if version in self._served else "UNAVAILABLE"
            return Entry(version, state, why)
        if version in self._served:
            return Entry(version, "READY")
        return Entry(version, "UNAVAILABLE", "not loaded")


def _describe(version: Pipeline) -> str:
    return f"version {version.number} ({version.model.build})"
