"""The metrics that dashboards are built on: names, labels and what moves them."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from server.errors import (
    BadImage,
    Cancelled,
    EngineFailure,
    Expired,
    NotReady,
    Overloaded,
    ServeError,
    WouldMiss,
)
from server.telemetry.counts import STAGES, Timing
from server.telemetry.metrics import Metrics, expose
from tests.scrapes import samples

MODEL = frozenset({"model", "version"})

# Every sample the server exposes, with its labels. A change breaks dashboards.
SAMPLES = {
    "alexnet_requests_total": {"face", "outcome", "version"},
    "alexnet_photos_total": {"outcome", "version"},
    "alexnet_request_duration_seconds_bucket": {"stage", "version", "le"},
    "alexnet_request_duration_seconds_count": {"stage", "version"},
    "alexnet_request_duration_seconds_sum": {"stage", "version"},
    "alexnet_batch_size_bucket": {"version", "le"},
    "alexnet_batch_size_count": {"version"},
    "alexnet_batch_size_sum": {"version"},
    "alexnet_batch_photos_total": {"size", "version"},
    "alexnet_engine_busy_seconds_total": {"version"},
    "alexnet_costmodel_drift_ratio": {"stage", "version"},
    "alexnet_dropped_total": {"reason"},
    "alexnet_ready": set(),
    "alexnet_model_info": {"name", "version", "build", "precision", "engine"},
    "alexnet_requests_in_flight": set(),
    "alexnet_photo_bytes": set(),
    "alexnet_queue_photos": {"stage"},
    "alexnet_limit": {"limit"},
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

TEXT, OPENMETRICS = "text/plain", "application/openmetrics-text; version=1.0.0"
TIMING = Timing(
    upload=0.002,
    decode_queue=0.0005,
    decode=0.004,
    batch_queue=0.0005,
    infer=0.015,
    total=0.023,
    batch_size=2,
)


def drifting(ratio: float) -> dict[str, Callable[[], float]]:
    return {stage: lambda: ratio for stage in ("decode", "infer", "pace")}


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics(CollectorRegistry(auto_describe=True))
    metrics.serving(INFO, drifting(1.5), {"tiny": lambda: 7})
    return metrics


def used(metrics: Metrics) -> Metrics:
    """Every counter has moved once, so that every family has a sample."""
    metrics.watch(lambda: True, lambda: 3, lambda: 4096, {"decode": lambda: 2}, {"requests": 64})
    metrics.request_answered("rest", "tiny", "1", [TIMING], 0.025)
    metrics.photo_answered("1", TIMING)
    metrics.batch_ran({"tiny"}, "1", 2, 0.015)
    metrics.request_failed("grpc", Overloaded("full"), "tiny", "1", 0.001)
    metrics.photo_failed("1", "expired", waited=True)
    return metrics


def value(metrics: Metrics, name: str, /, **labels: str) -> float | None:
    if name.startswith("nv_"):
        labels |= {"model": "tiny", "version": "1"}
    return metrics.registry.get_sample_value(name, labels)


def scraped(metrics: Metrics, accept: str = TEXT) -> str:
    body, _ = expose(metrics.registry, accept)
    return body.decode()


def test_the_names_and_labels_are_frozen(metrics: Metrics) -> None:
    found: dict[str, set[str]] = {}
    for sample in samples(scraped(used(metrics))):
        labels = set(sample.labels)
        assert found.setdefault(sample.name, labels) == labels, sample.name
    assert found == SAMPLES


def test_every_family_has_a_type_and_a_help_text(metrics: Metrics) -> None:
    for family in text_string_to_metric_families(scraped(used(metrics))):
        assert family.documentation, family.name
        assert family.type in ("counter", "gauge", "histogram"), family.name


def test_tritons_metrics_have_tritons_types(metrics: Metrics) -> None:
    """In the text format; in OpenMetrics a counter would have to end in `_total`."""
    lines = scraped(used(metrics)).splitlines()
    kinds = dict(line.split()[2:] for line in lines if line.startswith("# TYPE nv_"))
    assert kinds.pop("nv_inference_pending_request_count") == "gauge"
    assert kinds == dict.fromkeys(
        [name for name in SAMPLES if name.startswith("nv_") and "pending" not in name], "counter"
    )


def test_the_openmetrics_text_is_valid_and_tells_the_same(metrics: Metrics) -> None:
    families = list(read_openmetrics(scraped(used(metrics), OPENMETRICS)))
    assert {sample.name for family in families for sample in family.samples} == SAMPLES.keys()


@pytest.mark.parametrize(("accept", "kind"), [(TEXT, "text/plain"), (OPENMETRICS, OPENMETRICS)])
def test_a_scrape_gets_the_format_it_asks_for(metrics: Metrics, accept: str, kind: str) -> None:
    _, headers = expose(metrics.registry, accept)
    assert headers["content-type"].startswith(kind.partition(";")[0])


def test_an_answered_photo_moves_its_counter_and_histograms(metrics: Metrics) -> None:
    for _ in range(2):
        metrics.photo_answered("1", TIMING)
    assert value(metrics, "alexnet_photos_total", outcome="ok", version="1") == 2
    assert value(metrics, "alexnet_requests_total", face="rest", outcome="ok", version="1") == 0
    for stage in STAGES:
        labels = {"stage": stage, "version": "1"}
        seconds = value(metrics, "alexnet_request_duration_seconds_sum", **labels)
        assert seconds == pytest.approx(2 * getattr(TIMING, stage))
        assert value(metrics, "alexnet_request_duration_seconds_count", **labels) == 2


def test_an_answered_request_is_counted_once_whatever_photos_it_had(metrics: Metrics) -> None:
    metrics.request_answered("rest", "tiny", "1", [TIMING, TIMING], 0.025)
    assert value(metrics, "alexnet_requests_total", face="rest", outcome="ok", version="1") == 1
    assert value(metrics, "alexnet_requests_total", face="grpc", outcome="ok", version="1") == 0
    assert value(metrics, "alexnet_photos_total", outcome="ok", version="1") == 0


def test_a_photo_that_failed_is_dropped_only_if_it_left_a_queue(metrics: Metrics) -> None:
    metrics.photo_failed("1", "expired", waited=True)
    metrics.photo_failed("1", "expired", waited=False)
    assert value(metrics, "alexnet_photos_total", outcome="expired", version="1") == 2
    assert value(metrics, "alexnet_dropped_total", reason="expired") == 1


def test_a_run_of_the_engine_is_counted_with_its_size_and_time(metrics: Metrics) -> None:
    for size, seconds in ((2, 0.25), (2, 0.5), (32, 1.0)):
        metrics.batch_ran({"tiny"}, "1", size, seconds)
    rows = {
        size: value(metrics, "alexnet_batch_photos_total", size=size, version="1")
        for size in ("2", "32")
    }
    assert rows == {"2": 4, "32": 32}
    assert value(metrics, "alexnet_engine_busy_seconds_total", version="1") == 1.75
    assert value(metrics, "alexnet_batch_size_sum", version="1") == 36
    assert value(metrics, "nv_inference_exec_count") == 3


@pytest.mark.parametrize("longest_s", [0.1, 10.0, 30.0, 600.0])
def test_a_bucket_reaches_beyond_the_longest_deadline(longest_s: float) -> None:
    metrics = Metrics(CollectorRegistry(), longest_s)
    metrics.photo_answered("1", TIMING)
    buckets = [
        float(sample.labels["le"])
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "alexnet_request_duration_seconds_bucket"
        and sample.labels["stage"] == "total"
    ]
    assert all(upper == 2 * lower for lower, upper in pairwise(buckets[:-1]))
    assert (buckets[0], buckets[-1]) == (0.0005, float("inf"))
    assert longest_s < buckets[-2] <= 2 * longest_s


def test_tritons_counters_are_the_counts(metrics: Metrics) -> None:
    counts = metrics.counts["tiny", "1"]
    counts.executed(2, 0.015)
    counts.answered([TIMING, TIMING], 0.025)
    expected = {
        "request_success": 1, "count": 2, "exec_count": 1, "pending_request_count": 7,
        "request_duration_us": 25_000, "queue_duration_us": 1_000,
        "compute_input_duration_us": 4_000, "compute_infer_duration_us": 15_000,
        "compute_output_duration_us": 2_000,
    }  # fmt: skip
    found = {name: value(metrics, f"nv_inference_{name}") for name in expected}
    assert found == expected


def test_counts_outlive_an_exchange_of_the_weights(metrics: Metrics) -> None:
    metrics.batch_ran({"tiny"}, "1", 2, 0.015)
    again = (*INFO[:2], "20261122-def", *INFO[3:])
    metrics.serving(again, drifting(1.0), {"tiny": lambda: 3})
    metrics.retired(INFO)
    assert value(metrics, "nv_inference_exec_count") == 1
    names = ("name", "version", "build", "precision", "engine")
    assert value(metrics, "alexnet_model_info", **dict(zip(names, again, strict=True))) == 1
    assert value(metrics, "alexnet_model_info", **dict(zip(names, INFO, strict=True))) == 0
    drift = {"stage": "infer", "version": "1"}
    assert value(metrics, "alexnet_costmodel_drift_ratio", **drift) == 1.0
    assert value(metrics, "nv_inference_pending_request_count") == 3
    metrics.retired(again)
    assert value(metrics, "alexnet_costmodel_drift_ratio", **drift) is None
    assert value(metrics, "nv_inference_pending_request_count") is None
    assert value(metrics, "nv_inference_exec_count") == 1


@pytest.mark.parametrize(
    ("error", "triton"),
    [
        (Overloaded("full"), "REJECTED"),
        (Expired("late"), "REJECTED"),
        (WouldMiss("late"), "REJECTED"),
        (Cancelled(), "CANCELED"),
        (EngineFailure(), "BACKEND"),
        (BadImage("damaged"), "OTHER"),
        (ServeError(), "OTHER"),
    ],
    ids=lambda value: getattr(value, "reason", None),
)
def test_a_failure_is_counted_by_our_reason_and_by_tritons(
    metrics: Metrics, error: ServeError, triton: str
) -> None:
    metrics.request_failed("grpc", error, "tiny", "1", 0.001)
    labels = {"face": "grpc", "outcome": error.reason, "version": "1"}
    assert value(metrics, "alexnet_requests_total", **labels) == 1
    failures = {
        name: value(metrics, "nv_inference_request_failure", reason=name)
        for name in ("REJECTED", "CANCELED", "BACKEND", "OTHER")
    }
    assert failures == {**dict.fromkeys(failures, 0), triton: 1}
    assert value(metrics, "nv_inference_request_success") == 0


def test_a_request_that_got_no_version_is_counted_and_belongs_to_no_model(metrics: Metrics) -> None:
    metrics.request_failed("grpc", NotReady("nothing is loaded"))
    labels = {"face": "grpc", "outcome": "not_ready", "version": ""}
    assert value(metrics, "alexnet_requests_total", **labels) == 1
    assert value(metrics, "nv_inference_request_failure", reason="OTHER") == 0


def test_limits_stand_beside_what_they_limit(metrics: Metrics) -> None:
    metrics.watch(lambda: True, lambda: 0, lambda: 0, {}, {"requests": 64, "photo_bytes": 1 << 30})
    assert value(metrics, "alexnet_limit", limit="requests") == 64
    assert value(metrics, "alexnet_limit", limit="photo_bytes") == 1 << 30


def test_gauges_are_asked_when_scraped(metrics: Metrics) -> None:
    now = {"ready": 1, "in_flight": 7, "held": 4096, "queued": 3}
    metrics.watch(
        lambda: bool(now["ready"]),
        lambda: now["in_flight"],
        lambda: now["held"],
        {"infer": lambda: now["queued"]},
        {},
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
