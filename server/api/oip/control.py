"""The repository extension of the Open Inference Protocol: off unless the operator allows it."""

from dataclasses import asdict
from ipaddress import ip_address
from typing import Any

from alexnet.manifest import BundleError
from server.api.oip.tensors import Parameters
from server.errors import BadRequest, Disabled
from server.workers.peers import Alone


class RepositoryControl:
    """Peers are addresses without a port. All methods raise Disabled for whom it is not for."""

    def __init__(self, everyone: Alone, who: str):
        self._everyone, self._models, self._who = everyone, everyone.models, who

    @property
    def extensions(self) -> list[str]:
        return [] if self._who == "off" else ["model_repository"]

    def index(self, peer: str, only_ready: bool) -> list[dict[str, Any]]:
        self.check(peer)
        return [
            {"name": name, **asdict(entry)}
            for name in self._models.names
            for entry in self._models.plane.repository.index()
            if entry.state == "READY" or not only_ready
        ]

    async def load(self, peer: str, name: str, parameters: Parameters) -> None:
        """Makes what is served what the disk has now; both models of a version go together."""
        self.check(peer)
        self._models.check(name)
        if parameters:
            raise BadRequest("a model is loaded as it lies on disk; parameters are not taken")
        try:
            await self._everyone.load()
        except BundleError as error:
            raise BadRequest(f"failed to load '{name}': {error}") from None

    async def unload(self, peer: str, name: str) -> None:
        self.check(peer)
        self._models.check(name)
        await self._everyone.unload()

    def check(self, peer: str) -> None:
        if self._who == "open" or (self._who == "local" and _is_loopback(peer)):
            return
        if self._who == "local":
            raise Disabled("repository control is open to this machine only")
        raise Disabled("repository control is off; start the server with --repository-control")


def _is_loopback(peer: str) -> bool:
    try:
        return ip_address(peer).is_loopback
    except ValueError:  # no address: the peer is not known
        return False
