"""A model repository that remembers what it was told, and that the test can break."""

from collections.abc import Collection

from alexnet.manifest import BundleError
from server.models.repository import Entry


class FakeRepository:
    name = "m"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.broken = ""

    def index(self) -> list[Entry]:
        return [Entry("1", "READY"), Entry("2", "UNAVAILABLE", "not loaded")]

    async def load(self, only: Collection[str] | None = None) -> None:
        if self.broken:
            raise BundleError(self.broken)
        self.calls.append("load")

    async def unload(self) -> None:
        self.calls.append("unload")
