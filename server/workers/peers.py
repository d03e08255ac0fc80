"""What concerns every process behind a port: exchanging versions, and counts that add up.

With one process that is the process itself. Several have a socket each, in a folder that only their
user may enter, and ask each other there.
"""

import asyncio
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from alexnet.manifest import BundleError
from server.api.oip import metadata as oip_metadata
from server.api.oip.models import Models

log = logging.getLogger(__name__)

Json = dict[str, Any]

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


class Alone:
    """The only process, or one of several and what it does for itself."""

    def __init__(self, models: Models):
        self.models = models

    async def load(self) -> None:
        """Raises BundleError; then nothing has changed."""
        await asyncio.shield(self.models.plane.repository.load())  # whoever asked may hang up

    async def unload(self) -> None:
        await asyncio.shield(self.models.plane.repository.unload())

    async def statistics(self, name: str, version: str) -> Json:
        """Raises NotFound."""
        return oip_metadata.statistics(self.models, name, version)

    def routes(self) -> list[web.RouteDef]:
        """For the others."""

        async def load(request: web.Request) -> web.Response:
            try:
                await self.load()
            except BundleError as error:
                return web.Response(status=409, text=str(error))
            return web.Response()

        async def unload(request: web.Request) -> web.Response:
            await self.unload()
            return web.Response()

        async def statistics(request: web.Request) -> web.Response:
            return web.json_response(await self.statistics("", ""))

        async def served(request: web.Request) -> web.Response:
            return web.json_response([s.version for s in self.models.plane.repository.served])

        return [
            web.get("/served", served),
            web.post("/load", load),
            web.post("/unload", unload),
            web.get("/statistics", statistics),
        ]


class Together(Alone):
    """One of several, which does for all what it is asked."""

    def __init__(self, models: Models, folder: Path):
        super().__init__(models)
        self._folder = folder

    async def load(self) -> None:
        """One after the other, so that the machine is never busy with more than one; who comes
        first proves a version for all. Raises BundleError, and asks nobody any more."""
        await asyncio.shield(_tell(self._folder, "/load"))

    async def unload(self) -> None:
        await asyncio.shield(_tell(self._folder, "/unload"))

    async def statistics(self, name: str, version: str) -> Json:
        mine = oip_metadata.statistics(self.models, name, version)  # raises what is wrong with it
        asked = {(row["name"], row["version"]) for row in mine["model_stats"]}
        documents = [json.loads(text) for _, text in await gathered(self._folder, "/statistics")]
        return oip_metadata.added(documents, asked)


def among(models: Models, seat: Seat | None) -> Alone:
    return Together(models, seat.folder) if seat else Alone(models)


def sockets(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.sock"), key=lambda socket: int(socket.stem))


async def gathered(folder: Path, path: str) -> list[tuple[int, str]]:
    """(worker, what it says) of each that answers 200; one that is starting or ending does not."""

    async def ask(socket: Path) -> tuple[int, int, str]:
        try:
            return int(socket.stem), *await _ask(socket, "GET", path, ANSWER_S)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return int(socket.stem), 0, str(error)

    answers = await asyncio.gather(*map(ask, sockets(folder)))
    return [(worker, text) for worker, status, text in answers if status == 200]


async def served_by_others(seat: Seat) -> list[str] | None:
    """The versions that a worker who takes a place has to serve; None when nobody is there yet."""
    answers = await gathered(seat.folder, "/served")
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
    for last in (False, True):  # who takes a place meanwhile is told now, or asks the others after
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
