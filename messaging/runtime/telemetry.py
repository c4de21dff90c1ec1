"""One trace for each message, exported over OTLP if an endpoint is set.

No span ever contains a message's text, a whole phone number or a key: callers pass only identifiers, providers, reasons
and durations.
"""

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import structlog
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from messaging.codec import TRACEPARENT
from messaging.runtime.config import ProcessSettings
from messaging.runtime.spans import Bearer, ChosenIds, Tracer, parse

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider

_TRACESTATE = "tracestate"
CARRIED = frozenset({TRACEPARENT, _TRACESTATE})
"""The headers that carry a trace."""
_EXPORT_EVERY_MS = 1000
_LAST_EXPORT_S = 1.0
_INTERRUPTED_S = 0.5

_log = structlog.get_logger(__name__)


@contextlib.contextmanager
def open_tracer(process: ProcessSettings, service: str) -> Iterator[Tracer]:
    """Open the process's tracer; everything recorded is exported before the context ends, if that takes a second.

    Without an endpoint nothing is recorded, and traces are only passed on.
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
        sampler=ALWAYS_ON,  # our Tracer has already sampled
        id_generator=ids,
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_EXPORT_EVERY_MS))
    try:
        yield Tracer(provider.get_tracer("sms-gateway"), ids, process.trace_ratio)
    finally:
        _stop(provider, exporter)


def _stop(provider: "TracerProvider", exporter: "OTLPSpanExporter") -> None:
    """Export what is left, for a short time: a collector that does not answer must not delay the process's end."""
    stopping = threading.Thread(target=provider.shutdown, name="last-traces", daemon=True)
    stopping.start()
    stopping.join(_LAST_EXPORT_S)
    if stopping.is_alive():
        _log.warning("the last traces are lost: the collector does not answer")
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # what it says of its interrupted retries
        exporter.shutdown()
        stopping.join(_INTERRUPTED_S)


def caller_of(carrier: Mapping[str, str] | str) -> Bearer | None:
    """Read the caller's span from W3C headers or from a traceparent; None when there is none."""
    if isinstance(carrier, str):
        return parse(carrier)
    return parse(carrier.get(TRACEPARENT, ""), carrier.get(_TRACESTATE, ""))


def traceparent_of(span: Span) -> str:
    """Return the span as a W3C traceparent; empty when it has no trace."""
    if isinstance(span, Bearer):
        return span.traceparent
    one = span.get_span_context()
    return f"00-{one.trace_id:032x}-{one.span_id:016x}-{one.trace_flags:02x}" if one.is_valid else ""


def trace_id(span: Span) -> str:
    """Return the trace id as 32 hexadecimal digits."""
    return span.trace_id if isinstance(span, Bearer) else f"{span.get_span_context().trace_id:032x}"


class span:  # noqa: N801 - reads as a verb; a class costs half as much as a generator
    """Record one step as a child of `parent`; of an exception only the class is recorded, never the message."""

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        parent: Span | None,
        kind: SpanKind = SpanKind.INTERNAL,
        links: Sequence[Link] = (),
        attributes: Mapping[str, str | int | float | bool] | None = None,
    ) -> None:
        self._span = tracer.start(name, parent, kind, attributes, links)

    def __enter__(self) -> Span:
        return self._span

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _at: object) -> None:
        if kind is not None:
            self._span.set_status(Status(StatusCode.ERROR, kind.__name__))
        self._span.end()
