"""Every metric the server has, on a registry that is passed in.

`alexnet_*` are ours, with histograms. `nv_inference_*` repeat the counters of Triton under its
names and in its units, so that existing dashboards and autoscaling rules go on working.
"""

import time
from collections import Counter as Counts
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from server.telemetry.counts import Duration, Statistics, Timing

STAGES = ("decode", "queue", "infer", "total")
# 0.5 ms to 8 s, a factor of two apart.
SECONDS = tuple(0.0005 * 2**i for i in range(15))
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    def __init__(self, registry: CollectorRegistry):
        # A creation time beside every counter would double what is scraped.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry
        self.requests = Counter(
            "alexnet_requests",
            "Requests by the protocol they came in on, what became of them, and the version.",
            ("face", "outcome", "version"),
            registry=registry,
        )
        self.seconds = Histogram(
            "alexnet_request_duration_seconds",
            "Time of answered photos by stage.",
            ("stage", "version"),
            buckets=SECONDS,
            registry=registry,
        )
        self.batch = Histogram(
            "alexnet_batch_size", "Photos in each run of the engine.", ("version",),
            buckets=BATCHES, registry=registry,
        )  # fmt: skip
        self.dropped = Counter(
            "alexnet_dropped",
            "Photos that left a queue before they cost the engine anything.",
            ("reason",),
            registry=registry,
        )
        self._ready = Gauge(
            "alexnet_ready", "1 while the readiness probe says yes.", registry=registry
        )
        self.model = Gauge(
            "alexnet_model_info",
            "What is served.",
            ("name", "version", "build", "precision", "engine"),
            registry=registry,
        )
        self.drift = Gauge(
            "alexnet_costmodel_drift_ratio",
            "What a stage takes now by what it took at calibration; pace is all that is not in it.",
            ("stage", "version"),
            registry=registry,
        )
        self._drifts: Counts[tuple[str, str]] = Counts()
        self._in_flight = Gauge(
            "alexnet_requests_in_flight", "Requests admitted and not answered.", registry=registry
        )
        self._held = Gauge(
            "alexnet_photo_bytes", "Memory that admitted photos are counted with.",
            registry=registry,
        )  # fmt: skip
        self._queued = Gauge(
            "alexnet_queue_photos", "Photos waiting, by what they wait for.", ("stage",),
            registry=registry,
        )  # fmt: skip
        # Looking labels up costs more than counting.
        self._requests, self._seconds = cache(self.requests.labels), cache(self.seconds.labels)
        self._triton = TritonCounters()
        registry.register(self._triton)

    def watch(
        self,
        ready: Callable[[], bool],
        in_flight: Callable[[], int],
        held: Callable[[], int],
        queued: Mapping[str, Callable[[], int]],
    ) -> None:
        """Gauges are asked when scraped: they cannot drift from the truth."""
        self._ready.set_function(ready)
        self._in_flight.set_function(in_flight)
        self._held.set_function(held)
        for stage, photos in queued.items():
            self._queued.labels(stage).set_function(photos)

    def statistics(self, model: str, version: str) -> Statistics:
        """The counts of a version; they outlive an exchange of its weights, as counters must."""
        return self._triton.counted.setdefault((model, version), Statistics())

    def serving(self, info: Sequence[str], drift: Mapping[str, Callable[[], float]]) -> None:
        """A version is served from now on: `info` is the labels of alexnet_model_info."""
        version = info[1]
        self.model.labels(*info).inc()
        for stage, ratio in drift.items():
            self.drift.labels(stage, version).set_function(ratio)
            self._drifts[version, stage] += 1

    def retired(self, info: Sequence[str]) -> None:
        """What asked it for gauges is let go, unless its successor has taken them over."""
        self.model.labels(*info).dec()
        for version, stage in [key for key in self._drifts if key[0] == info[1]]:
            self._drifts[version, stage] -= 1
            if self._drifts[version, stage] == 0:
                self.drift.remove(stage, version)

    def answered(self, face: str, version: str, timings: Sequence[Timing]) -> None:
        self._requests(face, "ok", version).inc()
        for stage in STAGES:
            for timing in timings:
                self._seconds(stage, version).observe(getattr(timing, stage))

    def left(self, deadline: float) -> None:
        """Somebody left a queue, cancelled or at his deadline, a time of time.monotonic."""
        reason = "expired" if time.monotonic() >= deadline else "cancelled"
        self.dropped.labels(reason).inc()

    def failed(self, face: str, reason: str, version: str) -> None:
        self._requests(face, reason, version).inc()


# Our reasons in Triton's words; any other is OTHER.
TRITON_REASONS = {
    "overloaded": "REJECTED",
    "expired": "REJECTED",
    "would_miss_deadline": "REJECTED",
    "cancelled": "CANCELED",
    "engine": "BACKEND",
}

_TRITON: tuple[tuple[str, str, Callable[[Statistics], float]], ...] = (
    ("request_success", "Requests answered.", lambda s: s.success.count),
    ("pending_request_count", "Requests under way.", lambda s: s.pending),
    ("count", "Photos answered.", lambda s: s.photos),
    ("exec_count", "Runs of the engine.", lambda s: s.executions),
    ("request_duration_us", "Summed time of requests.", lambda s: _us(s.success)),
    ("queue_duration_us", "Summed time in the queue.", lambda s: _us(s.queue)),
    ("compute_input_duration_us", "Summed time of decoding.", lambda s: _us(s.decode)),
    ("compute_infer_duration_us", "Summed time in the engine.", lambda s: _us(s.infer)),
    ("compute_output_duration_us", "Summed time of ranking.", lambda s: _us(s.output)),
)


class TritonCounters(Collector):
    """Triton's metrics.md: counters whose names lack the `_total` that prometheus_client adds."""

    def __init__(self) -> None:
        self.counted: dict[tuple[str, str], Statistics] = {}
        """(model, version) -> its counts"""

    def collect(self) -> Iterator[Metric]:
        for name, text, value in _TRITON:
            metric = Metric(f"nv_inference_{name}", text, "unknown")
            for (model, version), counts in self.counted.items():
                metric.add_sample(metric.name, {"model": model, "version": version}, value(counts))
            yield metric
        failures = Metric("nv_inference_request_failure", "Requests not answered.", "unknown")
        for (model, version), counts in self.counted.items():
            reasons = dict.fromkeys(("REJECTED", "CANCELED", "BACKEND", "OTHER"), 0)
            for reason, count in counts.reasons.items():
                reasons[TRITON_REASONS.get(reason, "OTHER")] += count
            for reason, count in reasons.items():
                labels = {"model": model, "version": version, "reason": reason}
                failures.add_sample(failures.name, labels, count)
        yield failures


def _us(duration: Duration) -> int:
    return round(duration.ns / 1000)
