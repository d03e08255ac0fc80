"""The HTTP listeners: which routes on which port, and their start and stop."""

import logging

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import CollectorRegistry

from server import logs
from server.faces.docs import Docs
from server.faces.oip_rest import OipRest
from server.faces.ops import Ops
from server.faces.rest import Rest, errors
from server.plane import DataPlane

# A connection without a request in it is closed after this long.
KEEPALIVE_S = 75.0

_log = logging.getLogger(__name__)


class HttpFace:
    """REST on one port, metrics and probes on another."""

    def __init__(
        self,
        plane: DataPlane,
        registry: CollectorRegistry,
        host: str,
        http_port: int,
        metrics_port: int,
        repository_control: str = "off",
    ):
        ops = Ops(plane, registry)
        public = web.Application(
            middlewares=[errors], client_max_size=plane.limits.max_request_bytes
        )
        oip = OipRest(plane, repository_control)
        public.add_routes([*Rest(plane).routes(), *oip.routes(), *ops.probes(), *Docs().routes()])
        private = web.Application(middlewares=[errors])
        private.add_routes(ops.routes())
        self._host = host
        self._http = _Listener(public, http_port)
        self._metrics = _Listener(private, metrics_port)

    @property
    def http_port(self) -> int:
        return self._http.port

    @property
    def metrics_port(self) -> int:
        return self._metrics.port

    async def start(self) -> None:
        """Raises OSError when a port is taken."""
        for listener in (self._metrics, self._http):
            await listener.start(self._host)

    async def stop(self) -> None:
        """REST first: metrics can be read to the end."""
        for listener in (self._http, self._metrics):
            await listener.runner.cleanup()


logs.calm(_log, HttpProcessingError, "malformed HTTP was answered 400")


class _Listener:
    def __init__(self, application: web.Application, port: int):
        self.port = port
        # handler_cancellation: who hangs up leaves the queue, and the engine is not troubled.
        # The plane has drained before we close: what is open then is idle or too late.
        self.runner = web.AppRunner(
            application,
            handler_cancellation=True,
            access_log=None,
            logger=_log,
            keepalive_timeout=KEEPALIVE_S,
            shutdown_timeout=1.0,
        )

    async def start(self, host: str) -> None:
        await self.runner.setup()
        try:
            await web.TCPSite(self.runner, host, self.port).start()
        except OSError as error:
            raise OSError(f"cannot listen on {host}:{self.port}: {error.strerror}") from None
        self.port = self.runner.addresses[0][1]
