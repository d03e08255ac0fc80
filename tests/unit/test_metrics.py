"""The metrics that dashboards are built on: names, labels and what moves them."""

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read

from server.errors import ServeError
from server.telemetry.counts import Timing
from server.telemetry.metrics import TRITON_REASONS, Metrics

MODEL = frozenset({"model", "version"})

# Every sample the server exposes, with its labels. A change breaks somebody's dashboard.
SAMPLES = {
    "alexnet_requests_total": {"face", "outcome", "version"},
    "alexnet_request_duration_seconds_bucket": {"stage", "version", "le"},
    "alexnet_request_duration_seconds_count": {"stage", "version"},
    "alexnet_request_duration_seconds_sum": {"stage", "version"},
    "alexnet_batch_size_bucket": {"version", "le"},
    "alexnet_batch_size_count": {"version"},
    "alexnet_batch_size_sum": {"version"},
    "alexnet_costmodel_drift_ratio": {"stage", "version"},
    "alexnet_dropped_total": {"reason"},
    "alexnet_ready": set(),
    "alexnet_model_info": {"name", "version", "build", "precision", "engine"},
    "alexnet_requests_in_flight": set(),
    "alexnet_photo_bytes": set(),
    "alexnet_queue_photos": {"stage"},
    "nv_inference_request_success": MODEL,
    "nv_inference_request_failure": MODEL | {"reason"},
    "nv_inference_count": MODEL,
    "nv_inference_exec_count": MODEL,
    "nv_inference_pending_request_count": MODEL,
    "nv_inference_request_duration_us": MODEL,
    "nv_inference_queue_duration_us": MODEL,
    "nv_inference_compute_input_duration_us": MODEL,
    "nv_inference_compute_infer_duration_us": MODEL,
    "nv_inference_compute_output_duration_us": MODEL,
}
INFO = ("tiny", "1", "20261121-abc", "int8", "fake")

TIMING = Timing(decode=0.004, queue=0.001, infer=0.015, total=0.021, batch_size=2)


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics(CollectorRegistry(auto_describe=True))
    metrics.serving(INFO, {"infer": lambda: 1.5})
    metrics.statistics("tiny", "1")
    return metrics


def used(metrics: Metrics) -> Metrics:
    """Every counter has moved once, so that every family has a sample."""
    metrics.watch(lambda: True, lambda: 3, lambda: 4096, {"decode": lambda: 2})
    metrics.answered("rest", "1", [TIMING])
    metrics.batch.labels("1").observe(2)
    metrics.failed("grpc", "overloaded", "1")
    metrics.dropped.labels("expired").inc()
    return metrics


def value(metrics: Metrics, name: str, /, **labels: str) -> float | None:
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


def test_an_answered_request_moves_its_counters_and_histograms(metrics: Metrics) -> None:
    metrics.answered("rest", "1", [TIMING, TIMING])
    assert value(metrics, "alexnet_requests_total", face="rest", outcome="ok", version="1") == 1
    assert value(metrics, "alexnet_requests_total", face="grpc", outcome="ok", version="1") is None
    for stage in ("decode", "queue", "infer", "total"):
        labels = {"stage": stage, "version": "1"}
        seconds = value(metrics, "alexnet_request_duration_seconds_sum", **labels)
        assert seconds == pytest.approx(2 * getattr(TIMING, stage))
        assert value(metrics, "alexnet_request_duration_seconds_count", **labels) == 2


def test_tritons_counters_are_the_statistics(metrics: Metrics) -> None:
    counts = metrics.statistics("tiny", "1")
    counts.pending = 7
    counts.executed(2, 0.015)
    counts.answered([TIMING, TIMING], 0.025)
    expected = {
        "request_success": 1, "count": 2, "exec_count": 1, "pending_request_count": 7,
        "request_duration_us": 25_000, "queue_duration_us": 1_000,
        "compute_input_duration_us": 4_000, "compute_infer_duration_us": 15_000,
        "compute_output_duration_us": 4_000,
    }  # fmt: skip
    found = {name: value(metrics, f"nv_inference_{name}") for name in expected}
    assert found == expected


def test_counts_outlive_an_exchange_of_the_weights(metrics: Metrics) -> None:
    metrics.statistics("tiny", "1").executed(2, 0.015)
    again = (*INFO[:2], "20261122-def", *INFO[3:])
    metrics.serving(again, {"infer": lambda: 1.0})
    metrics.retired(INFO)
    assert value(metrics, "nv_inference_exec_count") == 1
    names = ("name", "version", "build", "precision", "engine")
    assert value(metrics, "alexnet_model_info", **dict(zip(names, again, strict=True))) == 1
    assert value(metrics, "alexnet_model_info", **dict(zip(names, INFO, strict=True))) == 0
    drift = {"stage": "infer", "version": "1"}
    assert value(metrics, "alexnet_costmodel_drift_ratio", **drift) == 1.0
    metrics.retired(again)
    assert value(metrics, "alexnet_costmodel_drift_ratio", **drift) is None


@pytest.mark.parametrize(
    ("reason", "triton"),
    [
        ("overloaded", "REJECTED"),
        ("expired", "REJECTED"),
        ("would_miss_deadline", "REJECTED"),
        ("cancelled", "CANCELED"),
        ("engine", "BACKEND"),
        ("invalid_image", "OTHER"),
        ("internal", "OTHER"),
    ],
)
def test_a_failure_is_counted_by_our_reason_and_by_tritons(
    metrics: Metrics, reason: str, triton: str
) -> None:
    metrics.failed("grpc", reason, "1")
    metrics.statistics("tiny", "1").failed(0.001, reason)
    labels = {"face": "grpc", "outcome": reason, "version": "1"}
    assert value(metrics, "alexnet_requests_total", **labels) == 1
    failures = {
        name: value(metrics, "nv_inference_request_failure", reason=name)
        for name in ("REJECTED", "CANCELED", "BACKEND", "OTHER")
    }
    assert failures == {**dict.fromkeys(failures, 0), triton: 1}
    assert value(metrics, "nv_inference_request_success") == 0


def test_tritons_reasons_are_about_reasons_that_exist() -> None:
    assert TRITON_REASONS.keys() <= {e.reason for e in ServeError.__subclasses__()} | {"cancelled"}


def test_gauges_are_asked_when_scraped(metrics: Metrics) -> None:
    now = {"ready": 1, "in_flight": 7, "held": 4096, "queued": 3}
    metrics.watch(
        lambda: bool(now["ready"]),
        lambda: now["in_flight"],
        lambda: now["held"],
        {"infer": lambda: now["queued"]},
    )
    for _ in range(2):
        assert value(metrics, "alexnet_ready") == now["ready"]
        assert value(metrics, "alexnet_requests_in_flight") == now["in_flight"]
        assert value(metrics, "alexnet_photo_bytes") == now["held"]
        assert value(metrics, "alexnet_queue_photos", stage="infer") == now["queued"]
        now = dict.fromkeys(now, 0)


def test_two_servers_in_one_process_share_nothing(metrics: Metrics) -> None:
    other = Metrics(CollectorRegistry())
    used(metrics)
    assert not [
        sample.name
        for family in other.registry.collect()
        for sample in family.samples
        if sample.value and not sample.name.startswith("alexnet_ready")
    ]
