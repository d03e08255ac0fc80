"""From a version on disk to one that is served: opened, proven, warm, and its costs known."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from alexnet.bundle import Bundle
from alexnet.manifest import BundleError
from server.engines.choice import Wanted, choose
from server.engines.model import Model, open_model
from server.engines.trial import try_graph
from server.models.beside import beside
from server.models.calibration import calibrated
from server.models.sources import Source
from server.scheduler import cpus
from server.scheduler.batcher import BatchPolicy
from server.scheduler.costs import CostModel
from server.scheduler.decoder import Decoder
from server.scheduler.pipeline import Pipeline
from server.telemetry.gpus import GpuMetrics
from server.telemetry.metrics import Metrics

T = TypeVar("T")


class Opener:
    def __init__(
        self,
        wanted: Wanted,
        policy: BatchPolicy,
        decoder: Decoder,
        metrics: Metrics,
        called: str = "",
    ):
        """`called`: the model's name for callers; empty: as its bundle is."""
        self._wanted, self._policy, self._called = wanted, policy, called
        self._decoder, self._metrics = decoder, metrics
        self._gpus = GpuMetrics()
        metrics.registry.register(self._gpus)

    async def open(self, source: Source, serving: list[Pipeline]) -> Pipeline:
        """`serving`: the versions that serve meanwhile. Raises BundleError."""
        # Threads of their own, for niceness; the engine's inherit it. With niceness 19 a cold start
        # took a minute.
        bundle = await _nicely(cpus.LOADER if serving else 0, lambda: Bundle.open(source.path))
        model, costs = await _nicely(cpus.DECODER, lambda: self._prove(bundle, serving))
        return Pipeline(
            source.version, model, costs, self._decoder, self._policy, self._metrics,
            lambda: self._gpus.serving(source.version, model.engines),
        )  # fmt: skip

    def _prove(self, bundle: Bundle, serving: list[Pipeline]) -> tuple[Model, CostModel]:
        if serving:
            self._try(bundle)
        opened = open_model(bundle, self._wanted, gently=bool(serving))
        model = replace(opened, called=self._called)
        for other in serving:
            if other.model.precision == model.precision:
                # Measuring would slow down those that serve; the figures are learnt.
                return model, CostModel.from_json(other.costs.to_json())
        return model, calibrated(model, self._wanted.max_batch_size, self._wanted.cache_dir)

    def _try(self, bundle: Bundle) -> None:
        choice = choose(bundle, self._wanted)
        if choice.runtime.on_gpu:  # what is tried is a session on a CPU (docs/gpu.md)
            return
        try:
            graph = bundle.files[choice.artifact.file]
            try_graph(graph, bundle.manifest, self._wanted.max_batch_size)
        except BundleError as error:
            raise BundleError(f"{bundle.origin}, {choice.artifact.file}: {error}") from None


async def _nicely(nice: int, work: Callable[[], T]) -> T:
    return await beside(work, lambda: cpus.yield_to_others(nice))
