"""From a version on disk to one that is served: opened, proven, warm, and its costs known."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from alexnet.bundle import Bundle
from server.config import Config, numbers
from server.engines.choice import Wanted
from server.models.calibration import calibrated
from server.models.model import Model, load
from server.models.repository import Repository, Source
from server.models.version import Served
from server.scheduler import cpus
from server.scheduler.batcher import BatchPolicy
from server.scheduler.costs import CostModel
from server.scheduler.decoder import Decoder
from server.telemetry.gpus import GpuMetrics
from server.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

T = TypeVar("T")


class Opener:
    def __init__(self, config: Config, decoder: Decoder, metrics: Metrics):
        self._config, self._decoder, self._metrics = config, decoder, metrics
        self.repository: Repository | None = None
        """Whose versions serve while another is opened."""
        self._gpus = GpuMetrics()
        metrics.registry.register(self._gpus)
        self._policy = BatchPolicy(
            config.max_batch_size,
            numbers(config.preferred_batch_size),
            config.max_queue_delay_microseconds / 1e6,
            config.priority_levels,
        )

    async def open(self, source: Source) -> Served:
        """Raises BundleError."""
        serving = self.repository.served if self.repository else []
        # Threads of their own, for niceness; the engine's inherit it. At a start 19 took a minute.
        nice = cpus.LOADER if serving else 0
        bundle = await _in_thread(nice, lambda: Bundle.open(source.path))
        model, costs = await _in_thread(cpus.DECODER, lambda: self._prove(bundle, serving))
        return Served(
            source.version, model, costs, self._decoder, self._policy, self._metrics,
            lambda: self._gpus.serving(source.version, model.engines),
        )  # fmt: skip

    def _prove(self, bundle: Bundle, serving: list[Served]) -> tuple[Model, CostModel]:
        config = self._config
        folder = _folder(config.cache_dir)
        wanted = Wanted(
            config.engine, config.precision, numbers(config.devices),
            config.engine_threads or cpus.available(), config.max_batch_size, folder,
        )  # fmt: skip
        model = load(bundle, wanted, gently=bool(serving))
        for other in serving:
            if other.model.precision == model.precision:
                # Measuring would slow down those who are being served; the figures are learnt.
                return model, CostModel.from_json(other.costs.to_json())
        return model, calibrated(model, config.max_batch_size, folder)


def _folder(name: str) -> Path | None:
    try:
        return Path(name).expanduser() if name else None
    except RuntimeError:
        log.warning("%s is nowhere, as this user has no home: nothing is kept there", name)
        return None


async def _in_thread(nice: int, work: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1, "open", cpus.yield_to_others, (nice,)) as thread:
        return await asyncio.get_running_loop().run_in_executor(thread, work)
