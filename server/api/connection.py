"""An HTTP connection: aiohttp's own, but for what it answers by itself and when it gives up.

aiohttp repeats to the caller what it could not read; loses a request that such bytes follow; and
drops one whose caller has closed its sending half, as `nc -N` does.
"""

import asyncio
import socket
import time
from typing import Any

from aiohttp import HttpVersion11, StreamReader, hdrs, web, web_server, web_urldispatcher

from server.api import access
from server.api.messages import failure
from server.errors import BadRequest, ServeError

NO_SNIFFING = "x-content-type-options", "nosniff"
"""A browser takes an answer for what its Content-Type says, whatever it looks like."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
PROBE_S = 0.1
"""After which a caller that sends no more is asked whether it still listens: most are answered by
then. And how often the network's answer to that is looked for."""
_CLOSED = 7
"""TCP_CLOSE, in the first byte of TCP_INFO: what was sent has been refused."""


class Connection(web.RequestHandler):
    __slots__ = ("_body", "_probing", "_sent_all", "heard", "started")

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._body: StreamReader | None = None
        """Of the last request."""
        self._sent_all = False
        """The caller has closed its sending half, or the connection."""
        self._probing: asyncio.TimerHandle | None = None
        self.started = self.heard = time.monotonic()
        """`heard`: when something came last."""

    def data_received(self, data: bytes) -> None:
        """A body that no length announces is read as the next request, and is none: the request
        before it must have been taken by then."""
        self.heard = time.monotonic()
        if not self._busy:  # else it is of a body, and would be searched for nothing
            end = data.find(b"\r\n\r\n") + 4
            if 4 <= end < len(data):
                self._take(data[:end])
                data = data[end:]
        self._take(data)

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio asks for an answer
        """Whether the connection stays open: until what was asked for in full is answered."""
        transport = self.transport
        if transport is None or transport.get_extra_info("sslcontext") or not self._asked_in_full():
            return False
        self._sent_all = True
        if self._probing is None:
            self._probing = asyncio.get_running_loop().call_later(PROBE_S, self._probe)
        return True

    def connection_lost(self, error: BaseException | None) -> None:
        if self._probing:
            self._probing.cancel()
        super().connection_lost(error)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """For what is no HTTP, as no handler is asked then."""
        super().handle_error(request, status, exc, message)  # it logs
        error: ServeError = ServeError()
        if status < 500:
            # What follows the colon repeats what was sent.
            why = (message or "").partition(":")[0].strip()
            error = BadRequest(f"the request is not valid HTTP: {why[:200]}")
        response = web.json_response(failure(error, access.identify("")), status=status)
        response.headers[NO_SNIFFING[0]] = NO_SNIFFING[1]
        response.force_close()
        visit = self._manager.visits.begin("rest", "malformed", peer=peer(request))  # type: ignore[union-attr] # Listener.start
        visit.end(str(status), error)
        return response

    async def _handle_request(self, *args: Any) -> tuple[web.StreamResponse, bool]:
        try:
            return await super()._handle_request(*args)
        finally:
            if self._sent_all and not self._messages:
                self._close = True

    def _take(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages:
            self._body = self._messages[-1][1]

    @property
    def _busy(self) -> bool:
        """It does not wait for the next request."""
        waits = self._waiter is not None and not self._waiter.done()
        return bool(self._messages) or (self._body is not None and not waits)

    def _asked_in_full(self) -> bool:
        """Something is to be answered, and nothing of it is missing."""
        return self._busy and self._body is not None and self._body.is_eof()

    def _probe(self) -> None:
        """A caller that has hung up looks like one that only listens, until it is sent something.
        HTTP/1.1 lets a server send an interim answer to any request, HTTP/1.0 knows none.
        https://www.rfc-editor.org/rfc/rfc9110#section-15.2"""
        request = self._current_request
        if self.transport and request and request.version >= HttpVersion11:
            self.transport.write(CONTINUE)
            self._look()

    def _look(self) -> None:
        """An answer in preparation is given up when nothing would receive it."""
        if self.transport is None or not self._request_in_progress:
            return
        if _refused(self.transport.get_extra_info("socket")):
            self.transport.abort()
            return
        self._probing = asyncio.get_running_loop().call_later(PROBE_S, self._look)


def _refused(connection: Any) -> bool:
    """Whether the peer has ended the connection. Known on Linux only: elsewhere an answer is
    prepared that nothing receives."""
    if connection.family == socket.AF_UNIX or not hasattr(socket, "TCP_INFO"):
        return False
    state: bytes = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return state[0] == _CLOSED


def peer(request: web.BaseRequest) -> str:
    """`127.0.0.1:5000`; empty for a socket that has no addresses."""
    name = request.transport and request.transport.get_extra_info("peername")
    if not isinstance(name, tuple):
        return ""
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


async def _expect(request: web.Request) -> None:
    """Nothing yet: whether a body is wanted is known when it is about to be read (`wanted`)."""


def wanted(request: web.Request) -> None:
    """To be called before a body is read: a caller may wait for `100 Continue`."""
    expected = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
    knows = request.version >= HttpVersion11 and not request.content.is_eof()
    if expected and knows and request.transport:
        request.transport.write(CONTINUE)


web_server.RequestHandler = Connection  # type: ignore[misc] # its only user makes them
web_urldispatcher._default_expect_handler = _expect  # of every route, and of paths that are none
