"""How the workers behind a port talk: loads and unloads for all, and counts that add up.

Each has a socket, in a folder that only their user may enter, and asks the others there.
"""

import asyncio
import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from alexnet.manifest import BundleError
from server.models.control import AllCounts, Control, finish
from server.models.repository import Repository
from server.telemetry.counts import Counts

log = logging.getLogger(__name__)

ANSWER_S = 5.0
LOAD_S = 600.0
KEPT = ".counts"
"""The end of the names of files with what a worker has told of its counts."""


@dataclass(frozen=True)
class Seat:
    """A worker's place among the others."""

    folder: Path
    number: int

    @property
    def socket(self) -> Path:
        return self.folder / f"{self.number}.sock"


class Peers(Control):
    """Does for all workers what one of them is asked."""

    def __init__(self, repository: Repository, counts: AllCounts, seat: Seat):
        super().__init__(repository, counts)
        self._folder = seat.folder

    async def load(self) -> None:
        """One after the other, so that the machine is never busy with more than one; the first one
        proves a version for all. Raises BundleError, and asks no other any more."""
        await finish(tell(self._folder, "/load"))

    async def unload(self) -> None:
        await asyncio.shield(tell(self._folder, "/unload"))

    async def counts(self) -> AllCounts:
        """Of all; those that have ended or hang as they last said, and a slow one is waited for."""
        texts = [text for _, text in await gather(self._folder, "/counts")]
        said = {told["life"]: told["counts"] for told in map(json.loads, texts)}
        for kept in self._folder.glob(f"*{KEPT}"):
            if kept.stem not in said:
                said[kept.stem] = json.loads(kept.read_bytes())
        total: defaultdict[tuple[str, str], Counts] = defaultdict(Counts)
        for model, version, counts in (row for rows in said.values() for row in rows):
            total[model, version] += Counts.from_json(counts)
        return total


def routes(
    control: Control, seat: Seat, reload: Callable[[], Awaitable[None]]
) -> list[web.RouteDef]:
    """Of the socket; `control` and `reload` are of this process alone."""
    life = f"{seat.number}-{os.getpid()}-{time.monotonic_ns()}"

    async def load(request: web.Request) -> web.Response:
        try:
            await control.load()
        except (BundleError, OSError) as error:
            return web.Response(status=409, text=str(error))
        return web.Response()

    async def unload(request: web.Request) -> web.Response:
        await control.unload()
        return web.Response()

    async def counts(request: web.Request) -> web.Response:
        """What was told once is kept: after a crash the sums of all must not fall."""
        rows = [(*key, each.to_json()) for key, each in (await control.counts()).items()]
        kept = seat.folder / f"{life}{KEPT}"
        kept.with_suffix(".new").write_text(json.dumps(rows))
        kept.with_suffix(".new").replace(kept)
        return web.json_response({"life": life, "counts": rows})

    async def reloaded(request: web.Request) -> web.Response:
        await reload()
        return web.Response()

    async def served(request: web.Request) -> web.Response:
        return web.json_response([pipeline.number for pipeline in control.repository.served])

    return [
        web.get("/served", served),
        web.post("/load", load),
        web.post("/unload", unload),
        web.post("/reload", reloaded),
        web.get("/counts", counts),
    ]


def sockets(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.sock"), key=lambda socket: int(socket.stem))


async def gather(folder: Path, path: str, patience_s: float = ANSWER_S) -> list[tuple[int, str]]:
    """(worker, what it says) of each that answers 200; one that is starting or ending does not."""
    found = sockets(folder)
    answers = await asyncio.gather(*(asked(socket, path, patience_s) for socket in found))
    return [
        (int(socket.stem), text)
        for socket, text in zip(found, answers, strict=True)
        if text is not None
    ]


async def asked(
    socket: Path, path: str, patience_s: float = ANSWER_S, accept: str = "*/*"
) -> str | None:
    """What the worker there says; None where it does not answer 200."""
    try:
        status, text = await _ask(socket, "GET", path, patience_s, accept)
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None
    return text if status == 200 else None


async def served_by_others(seat: Seat) -> list[str] | None:
    """The versions that a new worker has to serve; None when no other is there yet."""
    answers = await gather(seat.folder, "/served")
    others = [json.loads(text) for worker, text in answers if worker != seat.number]
    return list(others[0]) if others else None


async def hangs(seat: Seat, patience_s: float) -> bool:
    """Whether it says nothing for so long. One that is not there at all does not hang."""
    try:
        await _ask(seat.socket, "GET", "/counts", patience_s)  # which it keeps then
    except TimeoutError:
        return True
    except (aiohttp.ClientError, OSError):
        pass
    return False


async def tell(folder: Path, path: str) -> None:
    told: set[Path] = set()
    for last in (
        False,
        True,
    ):  # a worker that starts meanwhile is told now, or asks the others later
        for socket in [each for each in sockets(folder) if each not in told]:
            try:
                status, text = await _ask(socket, "POST", path, LOAD_S)
            except (aiohttp.ClientError, OSError) as error:
                if last:
                    log.warning("worker %s was not there for %s: %s", socket.stem, path, error)
                continue
            if status == 409:
                raise BundleError(text)
            if status != 200:
                raise RuntimeError(f"worker {socket.stem} answered {status} to {path}")
            told.add(socket)


async def _ask(
    socket: Path, method: str, path: str, timeout_s: float, accept: str = "*/*"
) -> tuple[int, str]:
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    connector = aiohttp.UnixConnector(str(socket))
    async with (
        aiohttp.ClientSession("http://worker", connector=connector, timeout=timeout) as session,
        session.request(method, path, headers={"accept": accept}) as response,
    ):
        return response.status, await response.text()
