"""The metrics that dashboards are built on: names, labels and what moves them."""

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read

from server.errors import ServeError
from server.metrics import TRITON_REASONS, Metrics, Timing

MODEL = frozenset({"model", "version"})

# Every sample the server exposes, with its labels. A change breaks somebody's dashboard.
SAMPLES = {
    "alexnet_requests_total": {"face", "outcome"},
    "alexnet_request_duration_seconds_bucket": {"stage", "le"},
    "alexnet_request_duration_seconds_count": {"stage"},
    "alexnet_request_duration_seconds_sum": {"stage"},
    "alexnet_batch_size_bucket": {"le"},
    "alexnet_batch_size_count": set(),
    "alexnet_batch_size_sum": set(),
    "alexnet_dropped_total": {"reason"},
    "alexnet_ready": set(),
    "alexnet_model_info": {"name", "version", "precision", "engine"},
    "alexnet_requests_in_flight": set(),
    "alexnet_queue_photos": set(),
    "nv_inference_request_success": MODEL,
    "nv_inference_request_failure": MODEL | {"reason"},
    "nv_inference_count": MODEL,
    "nv_inference_exec_count": MODEL,
    "nv_inference_pending_request_count": MODEL,
    "nv_inference_request_duration_us": MODEL,
    "nv_inference_queue_duration_us": MODEL,
    "nv_inference_compute_input_duration_us": MODEL,
    "nv_inference_compute_infer_duration_us": MODEL,
}

TIMING = Timing(decode=0.004, queue=0.001, infer=0.015, total=0.021, batch_size=2)


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics(CollectorRegistry(auto_describe=True))
    metrics.serving("tiny", "1", "int8", "fake")
    return metrics


def used(metrics: Metrics) -> Metrics:
    """Every counter has moved once, so that every family has a sample."""
    metrics.watch(lambda: True, lambda: 3, lambda: 2)
    metrics.classified("rest", TIMING)
    metrics.classified("grpc", TIMING)
    metrics.executed(2)
    metrics.failed("grpc", "overloaded")
    metrics.dropped.labels("expired").inc()
    return metrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    if name.startswith("nv_"):
        labels |= {"model": "tiny", "version": "1"}
    return metrics.registry.get_sample_value(name, labels)


def exposed(text: str) -> Iterator[tuple[str, set[str]]]:
    for family in read(text):
        for sample in family.samples:
            yield sample.name, set(sample.labels)


def test_the_names_and_labels_are_frozen(metrics: Metrics) -> None:
    text = generate_latest(used(metrics).registry).decode()
    found: dict[str, set[str]] = {}
    for name, labels in exposed(text):
        assert found.setdefault(name, labels) == labels, name
    assert found == SAMPLES


def test_every_family_has_a_type_and_a_help_text(metrics: Metrics) -> None:
    for family in read(generate_latest(used(metrics).registry).decode()):
        assert family.documentation, family.name
        assert family.type != "unknown" or family.name.startswith("nv_"), family.name


def test_the_openmetrics_text_is_valid_and_tells_the_same(metrics: Metrics) -> None:
    text = generate_openmetrics(used(metrics).registry).decode()
    families = list(read_openmetrics(text))
    assert {sample.name for family in families for sample in family.samples} == SAMPLES.keys()


def test_a_classified_photo_moves_its_counters_and_histograms(metrics: Metrics) -> None:
    metrics.classified("rest", TIMING)
    metrics.classified("rest", TIMING)
    assert value(metrics, "alexnet_requests_total", face="rest", outcome="ok") == 2
    assert value(metrics, "alexnet_requests_total", face="grpc", outcome="ok") is None
    for stage in ("decode", "queue", "infer", "total"):
        seconds = value(metrics, "alexnet_request_duration_seconds_sum", stage=stage)
        assert seconds == pytest.approx(2 * getattr(TIMING, stage))
        assert value(metrics, "alexnet_request_duration_seconds_count", stage=stage) == 2
    assert value(metrics, "nv_inference_request_success") == 2
    assert value(metrics, "nv_inference_count") == 2


@pytest.mark.parametrize(
    ("name", "microseconds"),
    [("request", 21_000), ("queue", 1_000), ("compute_input", 4_000), ("compute_infer", 15_000)],
)
def test_durations_in_tritons_names_are_microseconds(
    metrics: Metrics, name: str, microseconds: int
) -> None:
    metrics.classified("rest", TIMING)
    assert value(metrics, f"nv_inference_{name}_duration_us") == microseconds


def test_a_run_of_the_engine_is_counted_by_its_size(metrics: Metrics) -> None:
    metrics.executed(5)
    assert value(metrics, "alexnet_batch_size_sum") == 5
    assert value(metrics, "alexnet_batch_size_bucket", le="4.0") == 0
    assert value(metrics, "alexnet_batch_size_bucket", le="8.0") == 1
    assert value(metrics, "nv_inference_exec_count") == 1


@pytest.mark.parametrize(
    ("reason", "triton"),
    [
        ("overloaded", "REJECTED"),
        ("expired", "REJECTED"),
        ("cancelled", "CANCELED"),
        ("engine", "BACKEND"),
        ("invalid_image", "OTHER"),
        ("internal", "OTHER"),
    ],
)
def test_a_failure_is_counted_by_our_reason_and_by_tritons(
    metrics: Metrics, reason: str, triton: str
) -> None:
    metrics.failed("grpc", reason)
    assert value(metrics, "alexnet_requests_total", face="grpc", outcome=reason) == 1
    failures = {
        name: value(metrics, "nv_inference_request_failure", reason=name)
        for name in ("REJECTED", "CANCELED", "BACKEND", "OTHER")
    }
    assert failures == {**dict.fromkeys(failures, 0), triton: 1}
    assert value(metrics, "nv_inference_request_success") == 0


def test_tritons_reasons_are_about_reasons_that_exist() -> None:
    assert TRITON_REASONS.keys() <= {e.reason for e in ServeError.__subclasses__()} | {"cancelled"}


def test_gauges_are_asked_when_scraped(metrics: Metrics) -> None:
    now = {"ready": 1, "in_flight": 7, "queued": 3}
    metrics.watch(lambda: bool(now["ready"]), lambda: now["in_flight"], lambda: now["queued"])
    for _ in range(2):
        assert value(metrics, "alexnet_ready") == now["ready"]
        assert value(metrics, "alexnet_requests_in_flight") == now["in_flight"]
        assert value(metrics, "nv_inference_pending_request_count") == now["in_flight"]
        assert value(metrics, "alexnet_queue_photos") == now["queued"]
        now = {"ready": 0, "in_flight": 0, "queued": 0}


def test_two_servers_in_one_process_share_nothing(metrics: Metrics) -> None:
    other = Metrics(CollectorRegistry())
    used(metrics)
    assert other.registry.get_sample_value("alexnet_batch_size_count") == 0
    assert not [f for f in other.registry.collect() if f.name.startswith("nv_")]
