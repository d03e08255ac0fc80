"""What is counted from 0 on, so that a rate sees the first that comes."""

from prometheus_client import CollectorRegistry

from server.telemetry.counts import STAGES
from server.telemetry.metrics import Metrics
from tests.unit.test_metrics import INFO, value


def test_what_alerts_are_about_is_there_before_it_happens() -> None:
    """promtool: of 400 failures that a counter has when it first appears, rate() says 0."""
    fresh = Metrics(CollectorRegistry())
    labels = {"face": "grpc", "version": ""}
    assert value(fresh, "alexnet_requests_total", **labels, outcome="not_ready") == 0
    fresh.serving(INFO, {}, {})
    labels = {"face": "grpc", "version": "1"}
    for outcome in ("ok", "engine", "internal", "overloaded", "expired", "would_miss_deadline"):
        assert value(fresh, "alexnet_requests_total", **labels, outcome=outcome) == 0
    for stage in STAGES:
        count = "alexnet_request_duration_seconds_count"
        assert value(fresh, count, stage=stage, version="1") == 0
