"""Traces arrive at a collector: a span for each request, its stages below it, its batch linked."""

import itertools
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import grpc
import pytest

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from protos import oip_pb2_grpc
from server.telemetry import traces
from tests import collector
from tests.access_lines import access_lines
from tests.collector import Collector, attributes
from tests.fakes import Fake, faking, flat
from tests.paths import ROOT
from tests.service import oip_asking

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
STAGES = ["decode_queue", "decode", "batch_queue", "infer"]


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collector.over_grpc() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.address)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        yield received


@pytest.fixture
async def fake(collected: Collector) -> AsyncIterator[Fake]:
    async with faking(access_log="all") as fake:
        yield fake


def check_stages(collected: Collector, request: Any, *before: str) -> None:
    """Below its span, one after the other; and the batch that the last one is linked to."""
    stages = [span for span in collected.below(request) if span.name != "batch"]
    assert [span.name for span in stages] == [*before, *STAGES]
    assert stages[0].start_time_unix_nano >= request.start_time_unix_nano
    assert stages[-1].end_time_unix_nano <= request.end_time_unix_nano
    for one, following in itertools.pairwise(stages):
        assert one.end_time_unix_nano == following.start_time_unix_nano
    assert attributes(stages[-1])["alexnet.batch_size"] == 1
    (link,) = stages[-1].links
    (batch,) = [span for span in collected.named("batch") if span.span_id == link.span_id]
    assert attributes(batch) == {"alexnet.batch_size": 1}
    assert [each.span_id for each in batch.links] == [request.span_id]


async def test_a_request_over_rest_goes_on_with_the_trace_of_its_caller(
    fake: Fake, collected: Collector
) -> None:
    async with aiohttp.ClientSession(fake.url) as session:
        async with session.post("/v1/classify", data=flat(50), headers=GIVEN) as response:
            assert response.status == 200
            said = response.headers["traceparent"]
        (span,) = await collected.until("POST /v1/classify")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert said == f"00-{TRACE}-{span.span_id.hex()}-01"
    assert span.kind == 2  # of a server
    found = attributes(span)
    assert found["http.request.method"] == "POST"
    assert found["http.route"] == found["url.path"] == "/v1/classify"
    assert (found["http.response.status_code"], found["alexnet.version"]) == (200, "1")
    assert len(found["alexnet.request_id"]) == 32
    assert collected.resource["service.name"] == "alexnet-server"
    check_stages(collected, span, "upload")


async def test_calls_and_messages_of_streams_are_traced(
    fake: Fake, channel: grpc.aio.Channel, collected: Collector
) -> None:
    given = tuple(GIVEN.items())
    ours, oip = pb_grpc.ClassifierStub(channel), oip_pb2_grpc.GRPCInferenceServiceStub(channel)
    photo, asked = pb.ClassifyRequest(image=flat(50)), oip_asking.request([flat(50)])
    for method, message, name, before in (
        (ours.Classify, photo, "alexnet.v1.Classifier/Classify", ["upload"]),
        (oip.ModelInfer, asked, "inference.GRPCInferenceService/ModelInfer", []),
    ):
        call: Any = method(message, metadata=given)
        await call
        (span,) = await collected.until(name)
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
        said = dict(await call.trailing_metadata())["traceparent"]
        assert said == f"00-{TRACE}-{span.span_id.hex()}-01"
        assert attributes(span)["rpc.response.status_code"] == "OK"
        check_stages(collected, span, *before)
    name = "alexnet.v1.Classifier/ClassifyStream"
    async for _ in ours.ClassifyStream(iter([photo]), metadata=given):
        pass
    message, stream = await collected.until(name, 2)
    assert stream.parent_span_id.hex() == PARENT
    assert message.parent_span_id == stream.span_id
    check_stages(collected, message)


async def test_a_refusal_says_why_and_what_it_came_to(fake: Fake, collected: Collector) -> None:
    async with aiohttp.ClientSession(fake.url) as session:
        async with session.post("/v1/classify", data=b"no photo") as response:
            assert response.status == 415
        async with session.get("/nowhere/7") as response:
            assert response.status == 404
    (refused,) = await collected.until("POST /v1/classify")
    assert attributes(refused)["error.type"] == "unsupported_format"
    assert [span.name for span in collected.below(refused)][:1] == ["upload"]
    assert refused.status.code == 0, "it is the caller's fault"
    (nowhere,) = await collected.until("GET")  # a path of a stranger is no name of a span
    assert attributes(nowhere)["error.type"] == "not_found"


async def test_what_the_caller_does_not_record_is_not_recorded(
    fake: Fake, collected: Collector
) -> None:
    async with aiohttp.ClientSession(fake.url) as session:
        for given in (f"00-{TRACE}-{PARENT}-00", f"00-{TRACE}-{PARENT}-01"):
            headers = {"traceparent": given}
            await session.post("/v1/classify", data=flat(50), headers=headers)
    assert len(await collected.until("POST /v1/classify")) == 1


async def test_the_sampler_is_that_of_the_environment(
    collected: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    async with (
        faking() as fake,
        aiohttp.ClientSession(fake.url) as session,
        session.post("/v1/classify", data=flat(50)) as response,
    ):
        assert "traceparent" not in response.headers
    assert collected.spans == []


async def test_spans_go_over_http_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector.over_http() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.address)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "photos")
        async with faking() as fake, aiohttp.ClientSession(fake.url) as session:
            await session.post("/v1/classify", data=flat(50))
        assert len(received.named("POST /v1/classify")) == 1, "the end exports what is left"
        assert received.resource["service.name"] == "photos"


async def test_openmetrics_show_the_trace_of_a_photo(fake: Fake) -> None:
    async with (
        aiohttp.ClientSession(fake.url) as session,
        aiohttp.ClientSession(fake.private_url) as private,
    ):
        with access_lines() as log:
            await session.post("/v1/classify", data=flat(50), headers=GIVEN)
        openmetrics = {"accept": "application/openmetrics-text; version=1.0.0"}
        async with private.get("/metrics", headers=openmetrics) as response:
            exposed = await response.text()
        async with private.get("/metrics") as response:
            assert TRACE not in await response.text()
    assert log.of("trace_id") == [(TRACE,)]
    shown = [line for line in exposed.splitlines() if f'# {{trace_id="{TRACE}"}}' in line]
    assert {line.partition("{")[0] for line in shown} == {"alexnet_request_duration_seconds_bucket"}
    assert len(shown) == 6  # stages


async def test_a_trace_that_the_caller_records_is_known_without_any_exporter() -> None:
    async with faking(access_log="all") as fake, aiohttp.ClientSession(fake.url) as session:
        with access_lines() as log:
            for given in (GIVEN, {"traceparent": f"00-{TRACE}-{PARENT}-00"}, {"traceparent": "x"}):
                await session.post("/v1/classify", data=flat(50), headers=given)
    assert log.of("trace_id") == [(TRACE,), (None,), (None,)]


@pytest.mark.parametrize(
    ("environ", "on"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "photos"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4317"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, False),
    ],
)
def test_traces_are_made_where_a_variable_says_where_to(environ: dict[str, str], on: bool) -> None:
    assert traces.wanted(environ) is on


def test_an_exporter_that_is_not_here_is_named() -> None:
    with pytest.raises(traces.CannotTrace, match="no exporter 'zipkin' installed"):
        traces.opened({"OTEL_TRACES_EXPORTER": "zipkin"})


def test_without_the_extra_the_server_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(traces.CannotTrace, match=r"need pip install '\.\[otel\]'"):
        traces.opened({"OTEL_TRACES_EXPORTER": "otlp"})


@pytest.mark.process
def test_nothing_is_imported_where_traces_are_off() -> None:
    code = (
        "import sys, server.app; from server.telemetry import traces; assert not traces.opened({});"
        "sys.exit('opentelemetry' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
