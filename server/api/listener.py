"""An HTTP listener: its routes, on a port or a socket, and its start and stop."""

import errno
import logging
from pathlib import Path

from aiohttp import web, web_response
from aiohttp.http_exceptions import HttpProcessingError

from server.telemetry import logs

# A connection without a request in it is closed after this long.
KEEPALIVE_S = 75.0

_log = logging.getLogger(__name__)
logs.calm(_log, HttpProcessingError, "malformed HTTP was answered 400")
# asyncio tries again and again, a traceback each time.
logs.calm(
    logging.getLogger("asyncio"),
    OSError,
    "no connection can be accepted: too many are open",
    lambda error: getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE),
)
# Which versions run here is nobody's business; aiohttp says it where no handler is asked.
web_response.SERVER_SOFTWARE = "alexnet-server"


class Listener:
    def __init__(
        self,
        application: web.Application,
        port: int = 0,
        *,
        shared: bool = False,
        socket: Path | None = None,
    ):
        """A `shared` port has several processes listening; a `socket` takes the port's place."""
        self.port, self._shared, self._socket = port, shared, socket
        # handler_cancellation: who hangs up leaves the queue, and the engine is not troubled.
        # The plane has drained before we close: what is open then is idle or too late.
        self._runner = web.AppRunner(
            application,
            handler_cancellation=True,
            access_log=None,
            logger=_log,
            keepalive_timeout=KEEPALIVE_S,
            shutdown_timeout=1.0,
        )

    async def start(self, host: str) -> None:
        """Raises OSError when the port is taken."""
        await self._runner.setup()
        if self._socket:
            await web.UnixSite(self._runner, self._socket).start()
            return
        try:
            await web.TCPSite(self._runner, host, self.port, reuse_port=self._shared).start()
        except OSError as error:
            raise OSError(f"cannot listen on {host}:{self.port}: {error.strerror}") from None
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()
