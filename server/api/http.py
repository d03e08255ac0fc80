"""The HTTP face: which routes on which port."""

from aiohttp import web
from prometheus_client import CollectorRegistry

from server.api.classify_http import Rest, errors
from server.api.listener import Listener
from server.api.oip.http import OipRest
from server.api.oip.models import Models
from server.api.probes import Ops
from server.api.web.pages import Docs
from server.service import DataPlane
from server.workers.peers import Alone, Seat, among


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
        seat: Seat | None = None,
    ):
        """One of several workers shares its port, and has metrics on the socket of its seat."""
        ops, everyone = Ops(plane, registry), among(Models(plane), seat)
        public = web.Application(
            middlewares=[errors], client_max_size=plane.limits.max_request_bytes
        )
        oip = OipRest(plane, everyone, repository_control)
        public.add_routes([*Rest(plane).routes(), *oip.routes(), *ops.probes(), *Docs().routes()])
        private = web.Application(middlewares=[errors])
        private.add_routes(ops.routes())
        if seat:
            private.add_routes(Alone(everyone.models).routes())
        self._host = host
        self._http = Listener(public, http_port, shared=seat is not None)
        self._metrics = Listener(private, metrics_port, socket=seat.socket if seat else None)

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
            await listener.stop()
