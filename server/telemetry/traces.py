"""Traces by OpenTelemetry: a span for each visit, one below it for each stage of its photos, and
one for each batch. Nothing of OpenTelemetry is imported where they are off.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

import re
import threading
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

from alexnet import __version__
from alexnet.extras import installing
from server.errors import ServeError

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
CLOSE_S = 5.0
"""For what is not exported yet: a collector that does not answer must not hold up the end."""
SAMPLED = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f][13579bdf]")
# https://opentelemetry.io/docs/specs/semconv/rpc/grpc/: those of its codes that are the server's.
FAULTS = ("INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "UNKNOWN")

Attributes = dict[str, str | int]


class CannotTrace(Exception):
    """Traces are asked for and cannot be made."""


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether a variable of OpenTelemetry names an exporter, or where to export to."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip()
    to = (environ.get(f"OTEL_EXPORTER_OTLP_{name}ENDPOINT") for name in ("", "TRACES_"))
    return exporter != "none" if exporter else any(to)


def sampled(traceparent: str) -> str:
    """The id of the trace that a caller records; else empty."""
    match = SAMPLED.fullmatch(traceparent)
    return match[1] if match else ""


class Trace:
    """One span that is recorded, and its children; all times are of time.monotonic."""

    def __init__(self, traces: "Traces", span: Any):
        self._traces, self._span = traces, span
        self._context = span.get_span_context()
        # A clock that is set meanwhile must not tear a trace apart.
        self._since_1970_ns = time.time_ns() - time.monotonic_ns()
        self.id = f"{self._context.trace_id:032x}"

    @property
    def traceparent(self) -> str:
        context = self._context
        return f"00-{self.id}-{context.span_id:016x}-{context.trace_flags:02x}"

    def stage(
        self,
        name: str,
        start: float,
        end: float,
        attributes: Mapping[str, str | int] | None = None,
        links: Sequence[Any] = (),
    ) -> Any:
        """What to link a span to, so as to link it to this one."""
        span = self._traces.span(self._span, name, self._ns(start), attributes, links)
        span.end(self._ns(end))
        return self._traces.link(span.get_span_context())

    def batch(self, traced: Sequence["Trace"], start: float, end: float, size: int) -> Any:
        """The run of an engine, in the trace of its first photo and linked to all. A link to it."""
        links = [self._traces.link(trace._context) for trace in traced]
        return self.stage("batch", start, end, {"alexnet.batch_size": size}, links)

    def message(self, name: str) -> "Trace":
        """One of a stream."""
        now = self._ns(time.monotonic())
        return Trace(self._traces, self._traces.span(self._span, name, now, None, ()))

    def end(self, attributes: Attributes, status: str, error: ServeError | None) -> None:
        self._span.set_attributes(attributes)
        if error and (status in FAULTS or status.startswith("5")):
            self._span.set_status(self._traces.error, str(error))
        if error:
            self._span.set_attribute("error.type", error.reason)
        self._span.end()

    def _ns(self, at: float) -> int:
        return round(at * 1e9) + self._since_1970_ns


class Traces:
    """What spans are made by; from `opened`."""

    def __init__(self, environ: Mapping[str, str]):
        """Raises CannotTrace."""
        try:
            from opentelemetry import trace
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError:
            raise CannotTrace(
                f"OTEL_* variables ask for traces, which need {installing('otel')}; "
                "OTEL_SDK_DISABLED=true does without"
            ) from None
        named = environ.get("OTEL_SERVICE_NAME") or "service.name=" in environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        )
        resource = Resource.create({} if named else {"service.name": "alexnet-server"})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_exporter(environ)))
        self._tracer = self._provider.get_tracer("alexnet-server", __version__)
        self._extract = TraceContextTextMapPropagator().extract
        self._inside = trace.set_span_in_context
        self.link, self._kinds = trace.Link, trace.SpanKind
        self.error = trace.StatusCode.ERROR

    def begin(
        self, name: str, start: float, attributes: Attributes, headers: Mapping[str, Any]
    ) -> Trace | None:
        """None for what is not sampled."""
        carrier = {key: str(headers.get(key, "")) for key in (TRACEPARENT, TRACESTATE)}
        offset = time.time_ns() - time.monotonic_ns()
        span = self._tracer.start_span(
            name,
            self._extract(carrier) if carrier[TRACEPARENT] else None,
            self._kinds.SERVER,
            attributes,
            start_time=round(start * 1e9) + offset,
        )
        return Trace(self, span) if span.is_recording() else None

    def span(
        self, parent: Any, name: str, start_ns: int, attributes: Any, links: Sequence[Any]
    ) -> Any:
        return self._tracer.start_span(
            name, self._inside(parent), attributes=attributes, links=links, start_time=start_ns
        )

    def close(self) -> None:
        """Exports what is left, for a while."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(CLOSE_S)


def opened(environ: Mapping[str, str]) -> Traces | None:
    """None where nothing asks for traces. Raises CannotTrace."""
    return Traces(environ) if wanted(environ) else None


def _exporter(environ: Mapping[str, str]) -> Any:
    """As the variables say; any that is installed can be named."""
    name = environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    if name == "otlp":
        protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get(
            "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"
        )
        name = "otlp_proto_http" if protocol.startswith("http") else "otlp_proto_grpc"
    found = list(entry_points(group="opentelemetry_traces_exporter", name=name))
    if not found:
        raise CannotTrace(f"OTEL_TRACES_EXPORTER: there is no exporter {name!r} installed")
    return found[0].load()()
