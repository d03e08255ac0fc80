"""The metrics of several workers as those of one server."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import count

from prometheus_client.core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

# The same in every worker, or how far one may be off: a sum would say nothing.
HIGHEST = {
    "alexnet_model_info",
    "alexnet_costmodel_drift_ratio",
    "process_start_time_seconds",
    "process_max_fds",
    "python_info",
}
READY = "alexnet_ready"
"""Not of the totals: where no worker is left to say it, it must be 0 (overview.py)."""
MACHINE = "nv_cpu_", "nv_gpu_", "nv_energy_", "alexnet_gpu_"  # the same for every worker

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
        """worker -> what it exposes, in OpenMetrics or Prometheus's text format. That comes too
        late when another scrape has asked since, or when the worker has ended: it is counted
        already."""
        for worker, text in texts.items():
            if asked > self._latest[worker]:
                self._latest[worker] = asked
                self._told[worker] = {m.name: m for m in _families(text) if m.name != READY}

    def ended(self, worker: int) -> None:
        self._latest[worker] = self.ask()
        kept = {m.name: m for m in self._told.pop(worker, {}).values() if _counts(m)}
        self._ended = {m.name: m for m in _added([self._ended, kept])}

    def collect(self) -> Iterator[Metric]:
        yield from _added([*self._told.values(), self._ended])


def _families(text: str) -> Iterable[Metric]:
    if text.endswith("# EOF\n"):
        return openmetrics.text_string_to_metric_families(text)  # type: ignore[no-untyped-call,no-any-return]
    return text_string_to_metric_families(text)


def _counts(metric: Metric) -> bool:
    return metric.type != "gauge"


def _added(exposed: list[dict[str, Metric]]) -> Iterator[Metric]:
    """In the order of the first that has each metric and sample."""
    for name in dict.fromkeys(name for metrics in exposed for name in metrics):
        found = [metrics[name] for metrics in exposed if name in metrics]
        add = max if name in HIGHEST or name.startswith(MACHINE) else sum
        alike: dict[_Key, list[Sample]] = {}
        for sample in (sample for metric in found for sample in metric.samples):
            key = sample.name, tuple(sample.labels.items())
            alike.setdefault(key, []).append(sample)
        total = Metric(name, found[0].documentation, found[0].type)
        for (sample_name, labels), each in alike.items():
            value = add([sample.value for sample in each])
            total.add_sample(sample_name, dict(labels), value, exemplar=_latest(each))
        yield total


def _latest(samples: list[Sample]) -> Exemplar | None:
    exemplars = [sample.exemplar for sample in samples if sample.exemplar]
    return max(exemplars, key=lambda exemplar: exemplar.timestamp or 0, default=None)
