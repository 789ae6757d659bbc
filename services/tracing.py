"""Traces of requests by OpenTelemetry: one span a request, one below it for each stage of the pipeline.

A request whose caller sends a sampled W3C `traceparent` is traced, and a share of the others.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.settings_serving import ServingSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_SCOPE = "flywheel"
_PARENT = "traceparent"
_NS = 1_000_000_000

_tracer: ContextVar[trace.Tracer | None] = ContextVar("tracer", default=None)  # of the request's span


class Tracing:
    """Makes the spans of one service; without an exporter it makes none."""

    def __init__(self, service: str, share: float, exporter: "SpanExporter | None") -> None:
        self._tracer: trace.Tracer | None = None
        if exporter is None:
            return
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - most processes trace nothing
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415

        resource = Resource.create({"service.name": f"flywheel-{service}"})
        provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(share)), resource=resource)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = provider.get_tracer(_SCOPE)

    @classmethod
    def of(cls, service: str, serving: ServingSettings) -> "Tracing":
        """Send spans where the settings say, over HTTP; nowhere without an address."""
        if serving.otlp_endpoint is None:
            return cls(service, 0.0, None)
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

        return cls(service, serving.trace_share, OTLPSpanExporter(endpoint=serving.otlp_endpoint))

    @contextmanager
    def request(self, name: str, traceparent: str | None) -> Iterator[trace.Span]:
        """Trace what is done inside as a request to the route `name`, below the caller's span if it sent one."""
        if self._tracer is None:
            yield trace.INVALID_SPAN
            return
        parent = TraceContextTextMapPropagator().extract({} if traceparent is None else {_PARENT: traceparent})
        kind = trace.SpanKind.SERVER
        outer = _tracer.set(self._tracer)
        try:
            with self._tracer.start_as_current_span(name, parent, kind, attributes={"http.route": name}) as span:
                yield span
        finally:
            _tracer.reset(outer)


def trace_id(span: trace.Span) -> str | None:
    """Return the id of a span's trace, as W3C writes it; None when it is not recorded."""
    context = span.get_span_context()
    return trace.format_trace_id(context.trace_id) if context.trace_flags.sampled and context.is_valid else None


def record_stages(seconds: Mapping[str, float]) -> None:
    """Add a span for each stage below the request's; they were done one after another, the last one just now."""
    tracer = _tracer.get()
    if tracer is None or not trace.get_current_span().is_recording():
        return
    start = time.time_ns() - round(sum(seconds.values()) * _NS)
    for stage, lasted in seconds.items():
        end = start + round(lasted * _NS)
        tracer.start_span(stage, start_time=start).end(end)
        start = end
