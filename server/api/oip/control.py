"""The repository extension of the Open Inference Protocol: off unless the operator allows it."""

from dataclasses import asdict
from typing import Any

from alexnet.manifest import BundleError
from server.api import access
from server.api.oip.models import OipModels
from server.api.oip.tensors import Parameters
from server.errors import BadRequest, Disabled, Forbidden, Unauthenticated
from server.keys import caller
from server.models.control import Control


class RepositoryControl:
    """Peers are addresses without a port. Methods that take one raise Disabled or Forbidden where
    `allowed` (off, local or key) does not let it in."""

    def __init__(self, models: OipModels, control: Control, allowed: str):
        self.models, self.control, self._allowed = models, control, allowed

    @property
    def extensions(self) -> list[str]:
        return [] if self._allowed == "off" else ["model_repository"]

    async def index(self, peer: str, only_ready: bool) -> list[dict[str, Any]]:
        self.check(peer)
        return [
            {"name": name, **asdict(entry)}
            for name in self.models.names
            for entry in await self.control.repository.index()
            if entry.state == "READY" or not only_ready
        ]

    async def load(self, peer: str, name: str, parameters: Parameters) -> None:
        """Makes what is served what the disk has now; both models of a version go together."""
        self.check(peer)
        self.models.check(name)
        if parameters:
            raise BadRequest("a model is loaded as it lies on disk; parameters are not taken")
        try:
            await self.control.load()
        except (BundleError, OSError) as error:
            raise BadRequest(f"failed to load '{name}': {error}") from None

    async def unload(self, peer: str, name: str) -> None:
        self.check(peer)
        self.models.check(name)
        await self.control.unload()

    def check(self, peer: str) -> None:
        if self._allowed == "off":
            raise Disabled("repository control is off; start the server with --repository-control")
        key = caller.get()
        if (key and key.manage) or (self._allowed == "local" and access.is_loopback(peer)):
            return
        if key:
            raise Forbidden("this key may not manage the repository")
        if self._allowed == "local":
            raise Disabled("repository control is open to this machine only, or to a key that may")
        raise Unauthenticated("repository control asks for an API key that may manage")
