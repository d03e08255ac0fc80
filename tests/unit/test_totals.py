"""The metrics of several workers as those of one server; nothing that counts ever falls."""

from collections.abc import Callable, Iterable

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics

from gpu.nvml import READINGS
from server.app import registry
from server.errors import Overloaded
from server.telemetry.counts import Timing
from server.telemetry.metrics import Metrics, expose
from server.workers.totals import HIGHEST, MACHINE, Totals
from tests import scrapes

PENDING = "nv_inference_pending_request_count"
MODEL = {"model": "tiny", "version": "1"}
STAGE = {"stage": "infer", "version": "1"}
# Of everything else that is no counter, two workers have as much as both.
SAME_IN_EACH = (
    "alexnet_model_info",
    "alexnet_costmodel_drift_ratio",
    "process_start_time_seconds",
    "process_max_fds",
    "python_info",
    "nv_energy_consumption",
    "nv_gpu_utilization",
    "alexnet_gpu_temperature_celsius",
)


def timing(infer_s: float) -> Timing:
    return Timing(
        upload=0.001,
        decode_queue=0.0005,
        decode=0.004,
        batch_queue=0.0005,
        infer=infer_s,
        total=0.021,
        batch_size=1,
    )


def worker(requests: int, infer_s: float = 0.015, in_flight: int = 0, queued: int = 0) -> Metrics:
    """What a worker counts that has answered so many requests of one photo."""
    metrics = Metrics(CollectorRegistry())
    drift = dict.fromkeys(("decode", "infer", "pace"), lambda: 1.5)
    info = ("tiny", "1", "build", "int8", "fake")
    metrics.serving(info, drift, {"tiny": lambda: queued})
    metrics.watch(
        lambda: True, lambda: in_flight, lambda: 1000, {"decode": lambda: queued}, {"requests": 128}
    )
    answer(metrics, requests, infer_s)
    return metrics


def answer(metrics: Metrics, requests: int, infer_s: float = 0.015, version: str = "1") -> None:
    photo = timing(infer_s)
    for _ in range(requests):
        metrics.photo_answered(version, photo)
        metrics.request_answered("rest", "tiny", version, [photo], 0.025)


def text(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


def tell(totals: Totals, texts: dict[int, str]) -> None:
    totals.tell(texts, totals.ask())


def told(*workers: Metrics) -> Totals:
    totals = Totals()
    tell(totals, {number: text(metrics) for number, metrics in enumerate(workers)})
    return totals


def value(totals: Totals, name: str, /, **labels: str) -> float | None:
    together = CollectorRegistry(auto_describe=False)
    together.register(totals)
    return together.get_sample_value(name, labels)


def samples(metrics: Iterable[Metric]) -> set[tuple[str, frozenset[tuple[str, str]], float]]:
    found = [sample for metric in metrics for sample in metric.samples]
    return {(sample.name, frozenset(sample.labels.items()), sample.value) for sample in found}


def answered(totals: Totals) -> float | None:
    return value(totals, "alexnet_requests_total", face="rest", outcome="ok", version="1")


def test_counters_add_up() -> None:
    totals = told(worker(2), worker(3))
    assert answered(totals) == 5
    assert value(totals, "nv_inference_request_success", **MODEL) == 5
    assert value(totals, "nv_inference_request_duration_us", **MODEL) == 5 * 25_000


def test_histograms_add_up_bucket_by_bucket() -> None:
    totals = told(worker(2, infer_s=0.003), worker(3, infer_s=0.1))
    name = "alexnet_request_duration_seconds"
    assert value(totals, f"{name}_count", **STAGE) == 5
    assert value(totals, f"{name}_sum", **STAGE) == pytest.approx(2 * 0.003 + 3 * 0.1)
    buckets = {le: value(totals, f"{name}_bucket", **STAGE, le=le) for le in ("0.002", "0.004")}
    assert buckets == {"0.002": 0, "0.004": 2}
    assert value(totals, f"{name}_bucket", **STAGE, le="+Inf") == 5


def test_plain_gauges_add_up() -> None:
    totals = told(worker(0, in_flight=3, queued=2), worker(0, in_flight=4, queued=5))
    assert value(totals, "alexnet_requests_in_flight") == 7
    assert value(totals, "alexnet_photo_bytes") == 2000
    assert value(totals, "alexnet_limit", limit="requests") == 256
    assert value(totals, "alexnet_queue_photos", stage="decode") == 7
    assert value(totals, PENDING, **MODEL) == 7


@pytest.mark.parametrize("name", SAME_IN_EACH)
@pytest.mark.parametrize("values", [(1.5, 1.25), (1.25, 1.5)])
def test_what_is_the_same_in_every_worker_is_told_once(
    name: str, values: tuple[float, float]
) -> None:
    totals = Totals()
    for number, each in enumerate(values):
        exposed = CollectorRegistry()
        Gauge(name, "Of a worker.", ("a",), registry=exposed).labels("b").set(each)
        tell(totals, {number: generate_latest(exposed).decode()})
    assert value(totals, name, a="b") == 1.5


def test_the_metrics_with_a_rule_of_their_own_are_ones_that_a_server_has() -> None:
    exposed = {metric.name for metric in scrapes.families(text(Metrics(registry())))}
    on_gpus = {name for name, _, _ in READINGS}
    assert exposed | on_gpus >= HIGHEST
    assert all(name in HIGHEST or name.startswith(MACHINE) for name in on_gpus)


def test_what_only_one_worker_has_is_told_too() -> None:
    first, second = worker(1), worker(1)
    first.request_failed("grpc", Overloaded("full"), "tiny", "1", 0.001)
    answer(second, 1, version="2")
    for _ in range(4):
        second.photo_failed("1", "expired", waited=True)
    totals = told(first, second)
    refused = {"face": "grpc", "outcome": "overloaded", "version": "1"}
    assert value(totals, "alexnet_requests_total", **refused) == 1
    other = {"face": "rest", "outcome": "ok", "version": "2"}
    assert value(totals, "alexnet_requests_total", **other) == 1
    assert value(totals, "alexnet_request_duration_seconds_count", stage="infer", version="2") == 1
    assert value(totals, "alexnet_dropped_total", reason="expired") == 4
    assert answered(totals) == 2


def test_a_worker_that_ended_keeps_what_it_counted_and_nothing_else() -> None:
    totals = told(worker(2, in_flight=3, queued=2), worker(3, in_flight=4, queued=5))
    totals.ended(0)
    assert answered(totals) == 5
    assert value(totals, "alexnet_request_duration_seconds_count", **STAGE) == 5
    assert value(totals, "alexnet_request_duration_seconds_bucket", **STAGE, le="+Inf") == 5
    assert value(totals, "nv_inference_request_success", **MODEL) == 5
    assert value(totals, "alexnet_requests_in_flight") == 4
    assert value(totals, "alexnet_photo_bytes") == 1000
    assert value(totals, "alexnet_queue_photos", stage="decode") == 5
    assert value(totals, PENDING, **MODEL) == 5
    totals.ended(1)
    assert answered(totals) == 5
    assert value(totals, "nv_inference_request_success", **MODEL) == 5
    assert value(totals, "alexnet_ready") is None
    assert value(totals, PENDING, **MODEL) is None


def test_a_worker_that_does_not_answer_for_once_is_remembered() -> None:
    totals = told(worker(2), worker(3))
    tell(totals, {1: text(worker(4))})
    assert answered(totals) == 6


def test_a_worker_that_comes_again_adds_to_what_it_counted_before() -> None:
    totals = told(worker(2), worker(3))
    totals.ended(0)
    tell(totals, {1: text(worker(3))})
    assert answered(totals) == 5
    for _ in range(2):
        tell(totals, {0: text(worker(1)), 1: text(worker(3))})
        assert answered(totals) == 6
    totals.ended(0)
    totals.ended(0)
    assert answered(totals) == 6


def test_a_worker_that_ends_while_it_is_asked_is_not_counted_twice() -> None:
    totals = told(worker(2), worker(3))
    asked = totals.ask()
    totals.ended(0)
    totals.tell({0: text(worker(2)), 1: text(worker(3))}, asked)
    assert answered(totals) == 5
    totals.ended(0)
    assert answered(totals) == 5


def test_a_scrape_that_comes_late_does_not_take_counts_back() -> None:
    totals = told(worker(1))
    early, late = totals.ask(), totals.ask()
    totals.tell({0: text(worker(3))}, late)
    totals.tell({0: text(worker(2))}, early)
    assert answered(totals) == 3
    totals.ended(0)
    assert answered(totals) == 3


@pytest.mark.parametrize(
    ("accept", "parse"),
    [
        ("text/plain", scrapes.families),
        ("application/openmetrics-text; version=1.0.0", read_openmetrics),
    ],
    ids=["prometheus", "openmetrics"],
)
def test_the_sums_can_be_exposed_in_both_formats(
    accept: str, parse: Callable[[str], Iterable[Metric]]
) -> None:
    first, second = Metrics(registry()), worker(3)
    first.request_failed("grpc", Overloaded("full"), "tiny", "1", 0.001)
    second.batch_ran({"tiny"}, "1", 2, 0.015)
    totals = told(first, second)
    totals.ended(1)
    tell(totals, {1: text(worker(2))})
    together = CollectorRegistry(auto_describe=False)
    together.register(totals)
    body, _ = expose(together, accept)
    families = list(parse(body.decode()))
    assert samples(families) == samples(totals.collect())
    kinds = {family.name: family.type for family in families}
    assert kinds["alexnet_requests"] == "counter"
    assert kinds["alexnet_batch_size"] == "histogram"
    assert kinds["alexnet_requests_in_flight"] == "gauge"
    assert kinds[PENDING] == "gauge"
    assert (b"# TYPE nv_inference_count counter" in body) is (accept == "text/plain")
