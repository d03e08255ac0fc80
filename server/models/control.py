"""Loads, unloads and counts of the process; workers/peers.py does the same for several."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import Any

from alexnet.manifest import BundleError
from server.models.repository import Repository
from server.telemetry.counts import Counts

log = logging.getLogger(__name__)

AllCounts = Mapping[tuple[str, str], Counts]
"""(model, version) -> its counts"""


class Control:
    def __init__(self, repository: Repository, counts: AllCounts):
        self.repository, self._counts = repository, counts

    async def load(self) -> None:
        """Raises BundleError; then nothing has changed."""
        await finish(self.repository.load())

    async def unload(self) -> None:
        await asyncio.shield(self.repository.unload())

    async def counts(self) -> AllCounts:
        return self._counts


async def finish(load: Coroutine[Any, Any, None]) -> None:
    """Goes on when the caller hangs up; what goes wrong then is logged. Raises what `load` does."""
    loading = asyncio.ensure_future(load)
    try:
        await asyncio.shield(loading)
    except asyncio.CancelledError:
        loading.add_done_callback(_log)
        raise


def _log(loaded: asyncio.Future[None]) -> None:
    error = None if loaded.cancelled() else loaded.exception()
    if error:
        known = isinstance(error, BundleError | OSError)
        log.error("the load failed: %s", error, exc_info=None if known else error)
