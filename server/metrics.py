"""Every metric the server has, on a registry that is passed in.

`alexnet_*` are ours, with histograms. `nv_inference_*` repeat the counters of Triton under its
names and in its units, so that existing dashboards and autoscaling rules go on working.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

STAGES = ("decode", "queue", "infer", "total")
# 0.5 ms to 8 s, a factor of two apart.
SECONDS = tuple(0.0005 * 2**i for i in range(15))
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Timing:
    """Seconds that one photo spent in each stage, and the photos it shared the engine with."""

    decode: float
    queue: float
    infer: float
    total: float
    batch_size: int


class Metrics:
    def __init__(self, registry: CollectorRegistry):
        # A creation time beside every counter would double what is scraped.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry
        self.requests = Counter(
            "alexnet_requests",
            "Photos by the protocol they came in on and what became of them.",
            ("face", "outcome"),
            registry=registry,
        )
        self.seconds = Histogram(
            "alexnet_request_duration_seconds",
            "Time of classified photos by stage.",
            ("stage",),
            buckets=SECONDS,
            registry=registry,
        )
        self.batch = Histogram(
            "alexnet_batch_size", "Photos in each run of the engine.",
            buckets=BATCHES, registry=registry,
        )  # fmt: skip
        self.dropped = Counter(
            "alexnet_dropped",
            "Photos that left the queue before they cost the engine anything.",
            ("reason",),
            registry=registry,
        )
        self._ready = Gauge(
            "alexnet_ready", "1 while the readiness probe says yes.", registry=registry
        )
        self.model = Gauge(
            "alexnet_model_info",
            "What is served.",
            ("name", "version", "precision", "engine"),
            registry=registry,
        )
        self._in_flight = Gauge(
            "alexnet_requests_in_flight", "Requests admitted and not answered.", registry=registry
        )
        self._queued = Gauge(
            "alexnet_queue_photos", "Decoded photos waiting for the engine.", registry=registry
        )
        self._triton = TritonCounters()
        registry.register(self._triton)

    def serving(self, name: str, version: str, precision: str, engine: str) -> None:
        self.model.labels(name, version, precision, engine).set(1)
        self._triton.labels = {"model": name, "version": version}

    def watch(
        self,
        ready: Callable[[], bool],
        in_flight: Callable[[], int],
        queued: Callable[[], int],
    ) -> None:
        """Gauges are asked when scraped: they cannot drift from the truth."""
        self._ready.set_function(ready)
        self._in_flight.set_function(in_flight)
        self._queued.set_function(queued)
        self._triton.pending = in_flight

    def classified(self, face: str, timing: Timing) -> None:
        self.requests.labels(face, "ok").inc()
        for stage in STAGES:
            self.seconds.labels(stage).observe(getattr(timing, stage))
        self._triton.success(timing)

    def failed(self, face: str, reason: str) -> None:
        self.requests.labels(face, reason).inc()
        self._triton.failure(reason)

    def executed(self, batch_size: int) -> None:
        self.batch.observe(batch_size)
        self._triton.executions += 1


# Our reasons in Triton's words; any other is OTHER.
TRITON_REASONS = {
    "overloaded": "REJECTED",
    "expired": "REJECTED",
    "cancelled": "CANCELED",
    "engine": "BACKEND",
}


class TritonCounters(Collector):
    """Triton's metrics.md: counters whose names lack the `_total` that prometheus_client adds."""

    def __init__(self) -> None:
        self.labels: dict[str, str] = {}
        self.pending: Callable[[], int] = lambda: 0
        self.executions = 0
        self._successes = 0
        self._failures = dict.fromkeys(("REJECTED", "CANCELED", "BACKEND", "OTHER"), 0)
        self._seconds = dict.fromkeys(STAGES, 0.0)

    def success(self, timing: Timing) -> None:
        self._successes += 1
        for stage in STAGES:
            self._seconds[stage] += getattr(timing, stage)

    def failure(self, reason: str) -> None:
        self._failures[TRITON_REASONS.get(reason, "OTHER")] += 1

    def collect(self) -> Iterator[Metric]:
        if not self.labels:
            return
        yield self._metric("request_success", "Photos classified.", self._successes)
        failures = Metric("nv_inference_request_failure", "Photos not classified.", "unknown")
        for reason, count in self._failures.items():
            labels = {**self.labels, "reason": reason}
            failures.add_sample("nv_inference_request_failure", labels, count)
        yield failures
        yield self._metric("count", "Photos that went through the engine.", self._successes)
        yield self._metric("exec_count", "Runs of the engine.", self.executions)
        yield self._metric("pending_request_count", "Requests under way.", self.pending())
        durations = (
            ("request", "total"),
            ("queue", "queue"),
            ("compute_input", "decode"),
            ("compute_infer", "infer"),
        )
        for name, stage in durations:
            microseconds = round(self._seconds[stage] * 1e6)
            yield self._metric(f"{name}_duration_us", f"Summed {stage} time.", microseconds)

    def _metric(self, name: str, text: str, value: float) -> Metric:
        metric = Metric(f"nv_inference_{name}", text, "unknown")
        metric.add_sample(metric.name, self.labels, value)
        return metric
