"""From a version on disk to one that is served: opened, proven, warm, and its costs known."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
        # In a thread of its own: the engine's threads inherit its niceness.
        with ThreadPoolExecutor(1, "open", cpus.yield_to_others, (cpus.ENGINE,)) as thread:
            loop = asyncio.get_running_loop()
            model, costs = await loop.run_in_executor(thread, self._prove, source.path)
        served = Served(source.version, model, costs, self._decoder, self._policy, self._metrics)
        self._metrics.serving(served.info, served.drift)
        return served

    def _prove(self, path: Path) -> tuple[Model, CostModel]:
        config = self._config
        threads = config.engine_threads or cpus.available()
        bundle = Bundle.open(path)
        serving = self.repository.served if self.repository else []
        model = load(bundle, config.precision, threads, config.max_batch_size, gently=bool(serving))
        for other in serving:
            if other.model.artifact.precision == model.artifact.precision:
                # Measuring would slow down those who are being served; the figures are learnt.
                return model, CostModel.from_json(other.costs.to_json())
        folder = Path(config.cache_dir).expanduser() if config.cache_dir else None
        return model, calibrated(model, config.max_batch_size, folder)
