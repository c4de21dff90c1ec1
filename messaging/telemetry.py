"""One trace for each message, over OTLP where an endpoint is set.

No span ever holds a text, a whole phone number or a key: callers pass identifiers, providers, reasons and durations.
"""

import contextlib
from collections.abc import Iterator, Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from messaging.codec import TRACEPARENT
from messaging.config import Process
from messaging.spans import Bearer, ChosenIds, Tracer, parse

_TRACESTATE = "tracestate"
CARRIED = frozenset({TRACEPARENT, _TRACESTATE})
"""The headers that carry a trace."""
_EXPORT_EVERY_MS = 1000


@contextlib.contextmanager
def open_tracer(process: Process, service: str) -> Iterator[trace.Tracer]:
    """Give the process's tracer; what it has recorded is exported before the context ends.

    Without an endpoint nothing is recorded: traces only travel.
    """
    ids = ChosenIds()
    if not process.otlp_endpoint:
        yield Tracer(None, ids, process.trace_ratio)
        return
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    exporter = OTLPSpanExporter(endpoint=process.otlp_endpoint, insecure=not process.otlp_endpoint.startswith("https"))
    provider = TracerProvider(
        resource=Resource.create({"service.name": service, "service.instance.id": process.pod}),
        sampler=ALWAYS_ON,  # our tracer has sampled before it asks
        id_generator=ids,
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_EXPORT_EVERY_MS))
    try:
        yield Tracer(provider.get_tracer("sms-gateway"), ids, process.trace_ratio)
    finally:
        provider.shutdown()


def context_of(carrier: Mapping[str, str] | str) -> Context:
    """Read the W3C context of headers, or of a traceparent."""
    if isinstance(carrier, str):
        caller = parse(carrier)
    else:
        caller = parse(carrier.get(TRACEPARENT, ""), carrier.get(_TRACESTATE, ""))
    return Context() if caller is None else trace.set_span_in_context(caller, Context())


def below(span: Span) -> Context:
    """Give the context in which a span opens as a child of `span`."""
    return trace.set_span_in_context(span, Context())


def traceparent_of(span: Span) -> str:
    """Write the span as a W3C traceparent; empty when it has no trace."""
    if isinstance(span, Bearer):
        return span.traceparent
    one = span.get_span_context()
    return f"00-{one.trace_id:032x}-{one.span_id:016x}-{one.trace_flags:02x}" if one.is_valid else ""


def trace_id(span: Span) -> str:
    """Give the trace id as 32 hexadecimal digits."""
    return span.trace_id if isinstance(span, Bearer) else f"{span.get_span_context().trace_id:032x}"


@contextlib.contextmanager
def span(
    tracer: trace.Tracer,
    name: str,
    parent: Context | None,
    kind: SpanKind = SpanKind.INTERNAL,
    links: tuple[Link, ...] = (),
    attributes: Mapping[str, str | int | float | bool] | None = None,
) -> Iterator[Span]:
    """Record one step; an exception marks it by its class only, never by its words."""
    one = tracer.start_span(name, parent, kind, attributes=attributes, links=links)
    try:
        yield one
    except BaseException as exc:
        one.set_status(Status(StatusCode.ERROR, type(exc).__name__))
        raise
    finally:
        one.end()
