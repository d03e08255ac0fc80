"""From a version on disk to one that is served: opened, proven, warm, and its costs known."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from alexnet.bundle import Bundle
from server import cpus
from server.batcher import BatchPolicy
from server.calibration import calibrated
from server.config import Config, sizes
from server.costmodel import CostModel
from server.decode import Decoder
from server.metrics import Metrics
from server.model import Model, load
from server.repository import Repository, Source
from server.served import Served

T = TypeVar("T")


class Opener:
    def __init__(self, config: Config, decoder: Decoder, metrics: Metrics):
        self._config, self._decoder, self._metrics = config, decoder, metrics
        self.repository: Repository | None = None
        """Whose versions serve while another is opened."""
        self._policy = BatchPolicy(
            config.max_batch_size,
            sizes(config.preferred_batch_size),
            config.max_queue_delay_microseconds / 1e6,
            config.priority_levels,
        )

    async def open(self, source: Source) -> Served:
        """Raises BundleError."""
        # In threads of their own, for their niceness; those of the engine inherit it.
        bundle = await _in_thread(cpus.LOADER, lambda: Bundle.open(source.path))
        model, costs = await _in_thread(cpus.DECODER, lambda: self._prove(bundle))
        served = Served(source.version, model, costs, self._decoder, self._policy, self._metrics)
        self._metrics.serving(served.info, served.drift)
        return served

    def _prove(self, bundle: Bundle) -> tuple[Model, CostModel]:
        config = self._config
        threads = config.engine_threads or cpus.available()
        serving = self.repository.served if self.repository else []
        model = load(bundle, config.precision, threads, config.max_batch_size, gently=bool(serving))
        for other in serving:
            if other.model.artifact.precision == model.artifact.precision:
                # Measuring would slow down those who are being served; the figures are learnt.
                return model, CostModel.from_json(other.costs.to_json())
        folder = Path(config.cache_dir).expanduser() if config.cache_dir else None
        return model, calibrated(model, config.max_batch_size, folder)


async def _in_thread(nice: int, work: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1, "open", cpus.yield_to_others, (nice,)) as thread:
        return await asyncio.get_running_loop().run_in_executor(thread, work)
