"""Every metric of the server, on a registry that is passed in: one record for each thing that ends.

`alexnet_*` are ours, with histograms. `nv_inference_*` repeat Triton's counters under its names and
in its units, so that existing dashboards and autoscaling rules keep working.
"""

import re
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from server.errors import ServeError
from server.telemetry.caching import CacheMetrics
from server.telemetry.counts import STAGES, Counts, Duration, Timing

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SHORTEST_S = 0.0005
DRIFTS = ("decode", "infer", "pace")
FACES = ("rest", "grpc", "grpc-stream", "oip-rest", "oip-grpc", "oip-grpc-stream")
OURS = ("engine", "internal", "overloaded", "expired", "would_miss_deadline")
EARLY = ("internal", "not_ready", "overloaded")
"""Outcomes that alerts are about: of a version, and of requests that were refused before one."""


def watch_certificate(registry: CollectorRegistry, days_left: Callable[[], float]) -> None:
    """`days_left` until the certificate that callers are shown ends."""
    text = "Days until the TLS certificate ends."
    Gauge("alexnet_certificate_days_left", text, registry=registry).set_function(days_left)


class Metrics:
    """`longest_s` is the longest deadline that the operator expects: the last bucket is above."""

    def __init__(self, registry: CollectorRegistry, longest_s: float = 10.0):
        # A creation time beside every counter would double what is scraped.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry
        self.counts: defaultdict[tuple[str, str], Counts] = defaultdict(Counts)
        """(model, version) -> its counts; they outlive an exchange of its weights."""
        self._waiting: dict[tuple[str, str], Callable[[], int]] = {}
        self._serving: Tally[str] = Tally()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"alexnet_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"alexnet_{name}", text, labels, registry=registry)

        self._requests = counter(
            "requests", "Requests by protocol, outcome and version.", "face", "outcome", "version"
        )
        self._photos = counter("photos", "Photos by outcome and version.", "outcome", "version")
        buckets = [SHORTEST_S]
        while buckets[-1] <= longest_s:
            buckets.append(2 * buckets[-1])
        self._seconds = Histogram(
            "alexnet_request_duration_seconds", "Time of answered photos by stage.",
            ("stage", "version"), buckets=buckets, registry=registry,
        )  # fmt: skip
        self._batch = Histogram(
            "alexnet_batch_size", "Photos in each run of the engine.", ("version",),
            buckets=BATCHES, registry=registry,
        )  # fmt: skip
        self._rows = counter(
            "batch_photos", "Photos by the size of the batch they ran in.", "size", "version"
        )
        self._busy = counter("engine_busy_seconds", "Time in which an engine ran.", "version")
        self._dropped = counter(
            "dropped", "Photos that left a queue before they cost the engine anything.", "reason"
        )
        self._model = gauge(
            "model_info", "What is served.", "name", "version", "build", "precision", "engine"
        )
        self._drift = gauge(
            "costmodel_drift_ratio",
            "What a stage takes now by what it took at calibration; pace is all that is not in it.",
            "stage", "version",
        )  # fmt: skip
        self._ready = gauge("ready", "1 while the readiness probe says yes.")
        self._in_flight = gauge("requests_in_flight", "Requests admitted and not answered.")
        self._held = gauge("photo_bytes", "Memory that admitted photos are counted with.")
        self._queued = gauge("queue_photos", "Photos waiting, by what they wait for.", "stage")
        self._limits = gauge("limit", "What the server admits at most.", "limit")
        # Looking labels up costs more than counting.
        self._labelled: Callable[..., Any] = cache(lambda metric, *labels: metric.labels(*labels))
        for face in FACES:
            for outcome in EARLY:
                self._labelled(self._requests, face, outcome, "")
        registry.register(_TritonCounters(self.counts, self._waiting))

    def watch(
        self,
        ready: Callable[[], bool],
        in_flight: Callable[[], int],
        held: Callable[[], int],
        queued: Mapping[str, Callable[[], int]],
        limits: Mapping[str, int],
    ) -> None:
        """Gauges are asked when scraped: they cannot drift from the truth."""
        self._ready.set_function(ready)
        self._in_flight.set_function(in_flight)
        self._held.set_function(held)
        for stage, photos in queued.items():
            self._queued.labels(stage).set_function(photos)
        for name, limit in limits.items():
            self._limits.labels(name).set(limit)

    def caching(self, held: Callable[[], int], entries: Callable[[], int]) -> None:
        """There is a response cache: its bytes and its answers."""
        self.registry.register(CacheMetrics(self.counts, held, entries))

    def serving(
        self,
        info: Sequence[str],
        drift: Mapping[str, Callable[[], float]],
        waiting: Mapping[str, Callable[[], int]],
    ) -> None:
        """A version begins to serve: `info` is the labels of alexnet_model_info, `waiting` counts
        the requests of each model that wait."""
        version = info[1]
        self._model.labels(*info).inc()
        self._serving[version] += 1
        # A rate does not see what a counter has when it first appears: a burst of failures.
        for outcome in ("ok", *OURS):
            self._labelled(self._photos, outcome, version)
            for face in FACES:
                self._labelled(self._requests, face, outcome, version)
        for stage in STAGES:
            self._labelled(self._seconds, stage, version)
        for of_runs in (self._batch, self._busy):
            self._labelled(of_runs, version)
        for stage, ratio in drift.items():
            self._drift.labels(stage, version).set_function(ratio)
        for model, requests in waiting.items():
            self.counts[model, version]  # its counters are there from the start
            self._waiting[model, version] = requests

    def retired(self, info: Sequence[str]) -> None:
        """A version serves no more; the last under its number takes its gauges along."""
        version = info[1]
        self._model.labels(*info).dec()
        self._serving[version] -= 1
        if self._serving[version] == 0:
            for stage in DRIFTS:
                # A gauge that asks a function refers to itself, and so would keep the version.
                self._drift.labels(stage, version).set_function(float)
                self._drift.remove(stage, version)
            for key in [key for key in self._waiting if key[1] == version]:
                del self._waiting[key]

    def request_answered(
        self, face: str, model: str, version: str, timings: Sequence[Timing], total_s: float
    ) -> None:
        self._labelled(self._requests, face, "ok", version).inc()
        self.counts[model, version].answered(timings, total_s)

    def request_failed(
        self, face: str, error: ServeError, model: str = "", version: str = "", total_s: float = 0
    ) -> None:
        """`model` is empty where none was found for the request."""
        self._labelled(self._requests, face, error.reason, version).inc()
        if model:
            self.counts[model, version].failed(error.triton, total_s)

    def photo_answered(self, version: str, timing: Timing, trace_id: str = "") -> None:
        """OpenMetrics shows the trace of the last photo in each bucket."""
        self._labelled(self._photos, "ok", version).inc()
        exemplar = {"trace_id": trace_id} if trace_id else None
        for stage in STAGES:
            self._labelled(self._seconds, stage, version).observe(getattr(timing, stage), exemplar)

    def photo_failed(self, version: str, reason: str, waited: bool) -> None:
        """`waited`: it left a queue."""
        self._labelled(self._photos, reason, version).inc()
        if waited:
            self._labelled(self._dropped, reason).inc()

    def cache_asked(self, model: str, version: str, hit: bool, seconds: float) -> None:
        """`seconds`: for looking, and for keeping what was not there."""
        counts = self.counts[model, version]
        (counts.cache_hit if hit else counts.cache_miss).add(seconds)
        if hit:
            self._labelled(self._photos, "cached", version).inc()

    def batch_ran(self, models: set[str], version: str, size: int, seconds: float) -> None:
        self._labelled(self._batch, version).observe(size)
        self._labelled(self._rows, str(size), version).inc(size)
        self._labelled(self._busy, version).inc(seconds)
        for model in models:
            self.counts[model, version].executed(size, seconds)


OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def expose(registry: CollectorRegistry, accept: str) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a scrape. Triton's counters have its types in the text format; in
    OpenMetrics there is no counter whose name lacks `_total`."""
    encode, content_type = choose_encoder(accept)
    body = encode(registry)
    if content_type.startswith("text/plain"):
        body = re.sub(rb"(?m)^(# TYPE nv_\w+) untyped$", rb"\1 counter", body)
    return body, {"content-type": content_type}


_TRITON: tuple[tuple[str, str, Callable[[Counts], float]], ...] = (
    ("request_success", "Requests answered.", lambda c: c.success.count),
    ("count", "Photos answered.", lambda c: c.photos),
    ("exec_count", "Runs of the engine.", lambda c: c.executions),
    ("request_duration_us", "Summed time of requests.", lambda c: _us(c.success)),
    ("queue_duration_us", "Summed time in the queue.", lambda c: _us(c.queue)),
    ("compute_input_duration_us", "Summed time of decoding.", lambda c: _us(c.decode)),
    ("compute_infer_duration_us", "Summed time in the engine.", lambda c: _us(c.infer)),
    ("compute_output_duration_us", "Summed time of ranking.", lambda c: _us(c.output)),
)


class _TritonCounters(Collector):
    """Triton's metrics.md: counters whose names lack the `_total` that prometheus_client adds."""

    def __init__(
        self,
        counts: Mapping[tuple[str, str], Counts],
        waiting: Mapping[tuple[str, str], Callable[[], int]],
    ):
        self._counts, self._waiting = counts, waiting

    def collect(self) -> Iterator[Metric]:
        for name, text, value in _TRITON:
            metric = Metric(f"nv_inference_{name}", text, "unknown")
            for (model, version), counts in self._counts.items():
                metric.add_sample(metric.name, {"model": model, "version": version}, value(counts))
            yield metric
        failures = Metric("nv_inference_request_failure", "Requests not answered.", "unknown")
        for (model, version), counts in self._counts.items():
            for reason in ("REJECTED", "CANCELED", "BACKEND", "OTHER"):
                labels = {"model": model, "version": version, "reason": reason}
                failures.add_sample(failures.name, labels, counts.failures.get(reason, 0))
        yield failures
        pending = Metric("nv_inference_pending_request_count", "Requests that wait.", "gauge")
        for (model, version), requests in self._waiting.items():
            pending.add_sample(pending.name, {"model": model, "version": version}, requests())
        yield pending


def _us(duration: Duration) -> int:
    return round(duration.ns / 1000)
