"""How the workers behind a port talk: loads and unloads for all, and counts that add up.

Each has a socket, in a folder that only their user may enter, and asks the others there.
"""

import asyncio
import json
import logging
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from alexnet.manifest import BundleError
from server.models.control import AllCounts, Control
from server.models.repository import Repository
from server.telemetry.counts import Counts

log = logging.getLogger(__name__)

ANSWER_S = 5.0
LOAD_S = 600.0


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
        await asyncio.shield(_tell(self._folder, "/load"))

    async def unload(self) -> None:
        await asyncio.shield(_tell(self._folder, "/unload"))

    async def counts(self) -> AllCounts:
        total: defaultdict[tuple[str, str], Counts] = defaultdict(Counts)
        for _, text in await gather(self._folder, "/counts"):
            for model, version, counts in json.loads(text):
                total[model, version] += Counts.from_json(counts)
        return total


def routes(control: Control) -> list[web.RouteDef]:
    """Of the socket; `control` is of this process alone."""

    async def load(request: web.Request) -> web.Response:
        try:
            await control.load()
        except BundleError as error:
            return web.Response(status=409, text=str(error))
        return web.Response()

    async def unload(request: web.Request) -> web.Response:
        await control.unload()
        return web.Response()

    async def counts(request: web.Request) -> web.Response:
        rows = [(*key, each.to_json()) for key, each in (await control.counts()).items()]
        return web.json_response(rows)

    async def served(request: web.Request) -> web.Response:
        return web.json_response([pipeline.number for pipeline in control.repository.served])

    return [
        web.get("/served", served),
        web.post("/load", load),
        web.post("/unload", unload),
        web.get("/counts", counts),
    ]


def sockets(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.sock"), key=lambda socket: int(socket.stem))


async def gather(folder: Path, path: str) -> list[tuple[int, str]]:
    """(worker, what it says) of each that answers 200; one that is starting or ending does not."""

    async def ask(socket: Path) -> tuple[int, int, str]:
        try:
            return int(socket.stem), *await _ask(socket, "GET", path, ANSWER_S)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return int(socket.stem), 0, str(error)

    answers = await asyncio.gather(*map(ask, sockets(folder)))
    return [(worker, text) for worker, status, text in answers if status == 200]


async def served_by_others(seat: Seat) -> list[str] | None:
    """The versions that a new worker has to serve; None when no other is there yet."""
    answers = await gather(seat.folder, "/served")
    others = [json.loads(text) for worker, text in answers if worker != seat.number]
    return list(others[0]) if others else None


async def hangs(seat: Seat, patience_s: float) -> bool:
    """Whether it says nothing for so long. One that is not there at all does not hang."""
    try:
        await _ask(seat.socket, "GET", "/livez", patience_s)
    except TimeoutError:
        return True
    except (aiohttp.ClientError, OSError):
        pass
    return False


async def _tell(folder: Path, path: str) -> None:
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


async def _ask(socket: Path, method: str, path: str, timeout_s: float) -> tuple[int, str]:
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    connector = aiohttp.UnixConnector(str(socket))
    async with (
        aiohttp.ClientSession("http://worker", connector=connector, timeout=timeout) as session,
        session.request(method, path) as response,
    ):
        return response.status, await response.text()
