"""Metrics of the response cache, also under the names of Triton's."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.telemetry.counts import Counts

_TRITON: tuple[tuple[str, str, Callable[[Counts], float]], ...] = (
    ("num_hits_per_model", "Photos answered from the cache.", lambda c: c.cache_hit.count),
    ("num_misses_per_model", "Photos not found in it.", lambda c: c.cache_miss.count),
    ("hit_duration_per_model", "Time of hits, in us.", lambda c: c.cache_hit.ns / 1000),
    ("miss_duration_per_model", "Time of misses, in us.", lambda c: c.cache_miss.ns / 1000),
)


class CacheMetrics(Collector):
    def __init__(
        self,
        counts: Mapping[tuple[str, str], Counts],
        held: Callable[[], int],
        entries: Callable[[], int],
    ):
        self._counts, self._held, self._entries = counts, held, entries

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("alexnet_cache_bytes", "Memory of the kept answers.", self._held())
        yield GaugeMetricFamily("alexnet_cache_entries", "Answers that are kept.", self._entries())
        text = "Photos that were looked for in the cache, by outcome."
        asked = CounterMetricFamily(
            "alexnet_cache_photos", text, labels=("outcome", "model", "version")
        )
        for (model, version), counts in self._counts.items():
            asked.add_metric(("hit", model, version), counts.cache_hit.count)
            asked.add_metric(("miss", model, version), counts.cache_miss.count)
        yield asked
        for name, about, value in _TRITON:
            metric = Metric(f"nv_cache_{name}", about, "unknown")
            for (model, version), counts in self._counts.items():
                metric.add_sample(metric.name, {"model": model, "version": version}, value(counts))
            yield metric
