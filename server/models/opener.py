"""From a version on disk to one that is served: opened, proven, warm, and its costs known."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from alexnet.bundle import Bundle
from server.engines.choice import Wanted
from server.engines.model import Model, open_model
from server.models.calibration import calibrated
from server.models.repository import Source
from server.scheduler import cpus
from server.scheduler.batcher import BatchPolicy
from server.scheduler.costs import CostModel
from server.scheduler.decoder import Decoder
from server.scheduler.pipeline import Pipeline
from server.telemetry.gpus import GpuMetrics
from server.telemetry.metrics import Metrics

T = TypeVar("T")


class Opener:
    def __init__(self, wanted: Wanted, policy: BatchPolicy, decoder: Decoder, metrics: Metrics):
        self._wanted, self._policy = wanted, policy
        self._decoder, self._metrics = decoder, metrics
        self._gpus = GpuMetrics()
        metrics.registry.register(self._gpus)

    async def open(self, source: Source, serving: list[Pipeline]) -> Pipeline:
        """`serving`: the versions that serve meanwhile. Raises BundleError."""
        # Threads of their own, for niceness; the engine's inherit it. With niceness 19 a cold start
        # took a minute.
        bundle = await _in_thread(cpus.LOADER if serving else 0, lambda: Bundle.open(source.path))
        model, costs = await _in_thread(cpus.DECODER, lambda: self._prove(bundle, serving))
        return Pipeline(
            source.version, model, costs, self._decoder, self._policy, self._metrics,
            lambda: self._gpus.serving(source.version, model.engines),
        )  # fmt: skip

    def _prove(self, bundle: Bundle, serving: list[Pipeline]) -> tuple[Model, CostModel]:
        model = open_model(bundle, self._wanted, gently=bool(serving))
        for other in serving:
            if other.model.precision == model.precision:
                # Measuring would slow down those that serve; the figures are learnt.
                return model, CostModel.from_json(other.costs.to_json())
        return model, calibrated(model, self._wanted.max_batch_size, self._wanted.cache_dir)


async def _in_thread(nice: int, work: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1, "open", cpus.yield_to_others, (nice,)) as thread:
        return await asyncio.get_running_loop().run_in_executor(thread, work)
