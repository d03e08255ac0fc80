"""A version that is being served: its engine, its queue, and what is known of its speed."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alexnet.preprocess import Photo
from server.errors import ServeError
from server.models.model import Model
from server.scheduler.batcher import Batcher, BatchPolicy
from server.scheduler.costs import CostModel
from server.scheduler.decoder import Decoder
from server.scheduler.estimate import Forecast
from server.scheduler.job import Job
from server.scheduler.occupancy import Occupancy
from server.telemetry.counts import Timing
from server.telemetry.metrics import Metrics


def pixels_name(model: str) -> str:
    """The name under which the same engine takes crops in place of photos."""
    return f"{model}_pixels"


@dataclass(frozen=True)
class Outcome:
    """What the engine says of one photo, and where the time went."""

    probabilities: NDArray[np.float32]
    """(classes,)"""
    timing: Timing
    photo: Photo | None
    """None when the caller sent pixels."""


class Served:
    def __init__(
        self,
        version: str,
        model: Model,
        costs: CostModel,
        decoder: Decoder,
        policy: BatchPolicy,
        metrics: Metrics,
        announced: Callable[[], None] = lambda: None,
    ):
        """`announced` is told when it begins to serve."""
        self.version, self.model, self.costs = version, model, costs
        self.policy = policy
        names = (model.name, pixels_name(model.name))
        self.statistics = {name: metrics.statistics(name, version) for name in names}
        self._decoder, self._metrics = decoder, metrics
        self.batcher = Batcher(model.engines, policy, costs, metrics, self._executed, self._coming)
        self.forecast = Forecast(costs, decoder, self.batcher, policy)
        self._users = Occupancy()
        self._announced, self._on_announced = False, announced

    def in_use(self) -> AbstractContextManager[None]:
        """Who is inside keeps it from being closed."""
        return self._users

    async def infer(self, job: Job) -> Outcome:
        """A job with an image or a crop, which the forecast has admitted. Raises a ServeError;
        cancelled or expired, the job leaves whichever queue it is in, at once."""
        if job.crop is None:
            self._decoder.submit(job, self.model.bundle.manifest.preprocess, self._decoded)
        else:
            job.decode_started = job.decoded = job.arrived
            self.batcher.submit(job)
        timer = job.loop.call_at(job.deadline, job.expire)
        try:
            inferred = await job.answer
            self.forecast.settled(job)
        except (ServeError, asyncio.CancelledError):
            if time.monotonic() >= job.deadline:
                self.forecast.settled(job)
            if self._decoder.remove(job) or self.batcher.remove(job):
                self._metrics.left(job.deadline)
            job.abandon()
            raise
        finally:
            timer.cancel()
        timing = Timing(
            decode=job.decoded - job.decode_started,
            queue=job.decode_started - job.arrived + (job.infer_started - job.decoded),
            infer=job.inferred - job.infer_started,
            total=time.monotonic() - job.start,
            batch_size=inferred.batch_size,
        )
        return Outcome(inferred.probabilities, timing, job.photo)

    @property
    def info(self) -> tuple[str, str, str, str, str]:
        """The labels of the metric that says what is served."""
        model = self.model
        return (
            model.name, self.version, model.version, model.precision, model.engine.name
        )  # fmt: skip

    @property
    def drift(self) -> dict[str, Callable[[], float]]:
        """What each stage takes now, by what it took at calibration."""
        return {
            "decode": lambda: self.costs.drift["decode"],
            "infer": lambda: self.costs.drift["infer"],
            "pace": lambda: self.forecast.pace,
        }

    def announce(self) -> None:
        """From now on the metrics tell of it; `close` ends that."""
        self._metrics.serving(self.info, self.drift)
        self._on_announced()
        self._announced = True

    async def close(self) -> None:
        """Waits for who is inside, then frees the engine; one that hangs is left behind."""
        await self._users.empty()
        if await asyncio.to_thread(self.batcher.close):
            for engine in self.model.engines:
                await asyncio.to_thread(engine.close)
        if self._announced:
            self._metrics.retired(self.info)

    def _decoded(self, job: Job) -> None:
        self.costs.decoded(job.header, job.decoded - job.decode_started)
        self.batcher.submit(job)

    def _coming(self) -> bool:
        """While photos wait for a decoder, small batches are no good use of the CPU."""
        return self.model.engine.on_cpu and len(self._decoder) > 0

    def _executed(self, jobs: list[Job], seconds: float) -> None:
        self._metrics.batch.labels(self.version).observe(len(jobs))
        for name in {job.model for job in jobs}:
            self.statistics[name].executed(len(jobs), seconds)
        self.forecast.executed(jobs)
