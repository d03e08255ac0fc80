"""What is counted from 0 on, so that a rate sees the first that comes."""

from prometheus_client import CollectorRegistry

from server.telemetry.counts import STAGES
from server.telemetry.metrics import Metrics

INFO = ("tiny", "1", "20261121-abc", "int8", "fake")


def test_what_alerts_are_about_is_there_before_it_happens() -> None:
    """promtool: of 400 failures that a counter has when it first appears, rate() says 0."""
    registry = CollectorRegistry()
    metrics, value = Metrics(registry), registry.get_sample_value
    name, labels = "alexnet_requests_total", {"face": "grpc", "version": ""}
    assert value(name, {**labels, "outcome": "not_ready"}) == 0
    metrics.serving(INFO, {}, {})
    labels = {"face": "grpc", "version": "1"}
    for outcome in ("ok", "engine", "internal", "overloaded", "expired", "would_miss_deadline"):
        assert value(name, {**labels, "outcome": outcome}) == 0
    for stage in STAGES:
        count = "alexnet_request_duration_seconds_count"
        assert value(count, {"stage": stage, "version": "1"}) == 0
