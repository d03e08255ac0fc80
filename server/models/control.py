"""Loads, unloads and counts of the process; workers/peers.py does the same for several."""

import asyncio
from collections.abc import Mapping

from server.models.repository import Repository
from server.telemetry.counts import Counts

AllCounts = Mapping[tuple[str, str], Counts]
"""(model, version) -> its counts"""


class Control:
    def __init__(self, repository: Repository, counts: AllCounts):
        self.repository, self._counts = repository, counts

    async def load(self) -> None:
        """Raises BundleError; then nothing has changed."""
        await asyncio.shield(self.repository.load())  # the caller may hang up

    async def unload(self) -> None:
        await asyncio.shield(self.repository.unload())

    async def counts(self) -> AllCounts:
        return self._counts
