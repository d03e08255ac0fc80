"""The metrics of several workers as those of one server."""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import count

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

# The same in every worker, or how far one may be off: a sum would say nothing.
HIGHEST = {
    "alexnet_ready",
    "alexnet_model_info",
    "alexnet_costmodel_drift_ratio",
    "process_start_time_seconds",
    "process_max_fds",
    "python_info",
}
GPU = ("nv_gpu_", "nv_energy_", "alexnet_gpu_")  # every worker reads the same devices

_Key = tuple[str, tuple[tuple[str, str], ...]]  # name and labels of a sample


class Totals(Collector):
    """Counts of a worker that has ended stay in the sums: counters never fall."""

    def __init__(self) -> None:
        self._told: dict[int, dict[str, Metric]] = {}
        self._ended: dict[str, Metric] = {}
        self._asked = count(1)
        self._latest: Counter[int] = Counter()
        """worker -> the last question that counts."""

    def ask(self) -> int:
        """To be called before the workers are asked what they expose."""
        return next(self._asked)

    def tell(self, texts: Mapping[int, str], asked: int) -> None:
        """worker -> what it exposes, in Prometheus's text format. That comes too late when another
        scrape has asked since, or when the worker has ended: it is counted already."""
        for worker, text in texts.items():
            if asked > self._latest[worker]:
                self._latest[worker] = asked
                self._told[worker] = {m.name: m for m in text_string_to_metric_families(text)}

    def ended(self, worker: int) -> None:
        self._latest[worker] = self.ask()
        kept = {m.name: m for m in self._told.pop(worker, {}).values() if _counts(m)}
        self._ended = {m.name: m for m in _added([self._ended, kept])}

    def collect(self) -> Iterator[Metric]:
        yield from _added([*self._told.values(), self._ended])


def _counts(metric: Metric) -> bool:
    return metric.type != "gauge"


def _added(exposed: list[dict[str, Metric]]) -> Iterator[Metric]:
    """In the order of the first that has each metric and sample."""
    for name in dict.fromkeys(name for metrics in exposed for name in metrics):
        found = [metrics[name] for metrics in exposed if name in metrics]
        add = max if name in HIGHEST or name.startswith(GPU) else sum
        values: dict[_Key, list[float]] = {}
        for sample in (sample for metric in found for sample in metric.samples):
            key = sample.name, tuple(sample.labels.items())
            values.setdefault(key, []).append(sample.value)
        total = Metric(name, found[0].documentation, found[0].type)
        for (sample_name, labels), each in values.items():
            total.add_sample(sample_name, dict(labels), add(each))
        yield total
