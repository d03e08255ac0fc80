"""An HTTP application on a port or a socket, from its first connection to its last."""

import asyncio
import logging
import socket
import ssl
import time
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from server.api.connection import Connection
from server.api.http import LIFETIME, VISITS
from server.api.lifetime import SETTLE_S
from server.certificates import Certificates
from server.ports import at_path, listening

log = logging.getLogger("server.api.http")

HANDSHAKE_S = 1.0
"""For a connection that is accepted while the server ends. asyncio gives a minute, also to one that
says nothing."""


class Listener:
    def __init__(
        self,
        application: web.Application,
        port: int = 0,
        *,
        shared: bool = False,
        private: Path | None = None,
        also: str = "",
        certificates: Certificates | None = None,
    ):
        """A `shared` port has several processes listening; a `private` socket takes the port's
        place, and the path of one that listens `also` is beside it; neither has TLS."""
        self.port, self._shared, self._private = port, shared, private
        self._certificates = certificates
        self._also = Path(also) if also else None
        self._accepting: list[_Accepting] = []
        """On the port, and at the path."""
        # handler_cancellation: a request whose caller hangs up leaves the queue.
        # The service has drained before we close: what is open then is idle or too late.
        self._runner = web.AppRunner(
            application,
            handler_cancellation=True,
            access_log=None,
            logger=log,
            keepalive_timeout=application[LIFETIME].idle_s,
            shutdown_timeout=1.0,
            auto_decompress=False,  # api/bodies.py does, where a body is wanted
        )

    async def start(self, host: str) -> None:
        """Raises OSError when the port is taken."""
        await self._runner.setup()
        self._runner.server.visits = self._runner.app[VISITS]  # type: ignore[union-attr] # set up
        if self._private:
            await web.UnixSite(self._runner, self._private).start()
            return
        listener = listening(host, self.port, self._shared)
        self.port = listener.getsockname()[1]
        accepting = _Accepting(self._runner, listener, self._certificates)
        self._accepting.append(accepting)
        await accepting.begin()
        if self._also:
            beside = _Accepting(self._runner, at_path(self._also))
            self._accepting.append(beside)
            await beside.begin()
        if self._certificates:
            self._certificates.followers.append(accepting.begin)

    async def stop(self) -> None:
        """What has connected by now is answered: it could not know. May be called again."""
        accepting, self._accepting = self._accepting, []
        if accepting:
            await asyncio.gather(*(each.end() for each in accepting))
            await self._settle()
        await self._runner.cleanup()
        if self._also and len(accepting) > 1:  # else another server listens there
            self._also.unlink(missing_ok=True)

    async def _settle(self) -> None:
        """A connection that is answered meanwhile is told that it ends, and is gone then."""
        assert self._runner.server
        now = time.monotonic()
        earliest, latest = now - SETTLE_S, now + SETTLE_S
        while time.monotonic() < latest and any(
            each.heard > earliest
            for each in self._runner.server.connections
            if isinstance(each, Connection)
        ):
            await asyncio.sleep(SETTLE_S / 20)


class _Accepting:
    """A socket that listens, and the site that accepts from it."""

    def __init__(
        self,
        runner: web.AppRunner,
        listener: socket.socket,
        certificates: Certificates | None = None,
    ):
        self._runner, self._listener, self._certificates = runner, listener, certificates
        self._site: web.SockSite | None = None
        self._own: socket.socket | None = None
        """The site's, of the same socket."""

    async def begin(self) -> None:
        """With the certificates of now. It is the same socket: no connection is lost between."""
        before = self._site, self._own
        self._own = self._listener.dup()
        self._site = web.SockSite(self._runner, self._own, ssl_context=self._context)
        await self._site.start()
        await _end(*before)

    async def end(self) -> None:
        """Closing the socket resets what the kernel has connected and nothing has accepted: so all
        of that is accepted first."""
        await _end(self._site, self._own)
        last = []
        with suppress(BlockingIOError):
            while True:
                last.append(self._listener.accept()[0])
        self._listener.close()
        await asyncio.gather(*map(self._give, last))

    async def _give(self, connection: socket.socket) -> None:
        """To the server."""
        server, context = self._runner.server, self._context
        assert server
        connection.setblocking(False)
        with suppress(OSError):  # it has hung up, or speaks no TLS, or nothing
            await asyncio.get_running_loop().connect_accepted_socket(
                server,
                connection,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_S if context else None,
            )

    @property
    def _context(self) -> ssl.SSLContext | None:
        return self._certificates.shown.context if self._certificates else None


async def _end(site: web.SockSite | None, accepting: socket.socket | None) -> None:
    """asyncio drops, without a word, what it has accepted and not yet given to the server when
    that is closed: so it accepts no more first."""
    if site and accepting:
        asyncio.get_running_loop().remove_reader(accepting)
        for _ in range(2):  # to accept, and to give
            await asyncio.sleep(0)
        await site.stop()
