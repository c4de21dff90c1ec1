"""Cheap spans for traces that are not recorded: they only carry a trace from process to process.

The SDK takes 20 µs to create and discard a span even when nothing is exported. So it is used only for spans that will
be exported; every other span is a `Bearer`, which has only the ids for traceparent headers and logs. Ids are random,
like the SDK's, and not secret.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from random import getrandbits

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, TraceState

# https://www.w3.org/TR/trace-context: version ff and ids of zeros are invalid; version 00 ends after the flags.
_LONGEST = 512  # of either header
_TRACEPARENT = re.compile(
    r"[ \t]*(?!ff)([0-9a-f]{2})-((?!0{32})[0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(-.*)?[ \t]*"
)


class Bearer(NonRecordingSpan):
    """A span that is not recorded: trace id and span id in hexadecimal, `flags` as in W3C Trace Context."""

    def __init__(self, trace_id: str, span_id: str, flags: int, tracestate: str = "", *, remote: bool = False) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.flags = flags
        self._tracestate = tracestate
        self._remote = remote

    def get_span_context(self) -> SpanContext:
        """Give what the SDK asks a parent for; few spans are ever asked, so it is made then."""
        return self._as_context

    @cached_property
    def _as_context(self) -> SpanContext:
        state = TraceState.from_header([self._tracestate]) if 0 < len(self._tracestate) <= _LONGEST else None
        return SpanContext(int(self.trace_id, 16), int(self.span_id, 16), self._remote, TraceFlags(self.flags), state)

    def __repr__(self) -> str:
        return f"Bearer({self.traceparent})"

    @property
    def sampled(self) -> bool:
        """Whether this trace is to be recorded, as decided upstream or by our own ratio."""
        return bool(self.flags & TraceFlags.SAMPLED)

    @property
    def traceparent(self) -> str:
        """The span as a W3C traceparent."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"


def parse(traceparent: str, tracestate: str = "") -> Bearer | None:
    """Read the caller's span from a W3C traceparent; None when it is not one."""
    if len(traceparent) > _LONGEST or (match := _TRACEPARENT.fullmatch(traceparent)) is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if more and version == "00":
        return None
    return Bearer(trace_id, span_id, int(flags, 16), tracestate, remote=True)


class ChosenIds(RandomIdGenerator):
    """Makes the SDK use the trace id for which `Tracer` decided to record."""

    def __init__(self) -> None:
        self.trace_id = 0

    def generate_trace_id(self) -> int:
        """Return the chosen id."""
        return self.trace_id


class Tracer:
    """Starts an SDK span when it will be exported, and a Bearer otherwise.

    `recorder` is the SDK's tracer, None when nothing is exported. New traces are sampled with `ratio` (0 to 1).
    """

    def __init__(self, recorder: trace.Tracer | None, ids: ChosenIds, ratio: float) -> None:
        self._recorder = recorder
        self._ids = ids
        self._bound = TraceIdRatioBased.get_bound_for_rate(ratio)

    @property
    def records(self) -> bool:
        """Whether anything is exported; if not, spans without children and without onward calls can be left out."""
        return self._recorder is not None

    def start(
        self,
        name: str,
        parent: Span | None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, str | int | float | bool] | None = None,
        links: Sequence[Link] = (),
        start_time: int | None = None,
    ) -> Span:
        """Start a child span of `parent`, or a new trace; `start_time` is Unix nanoseconds, None means now."""
        if isinstance(parent, Bearer):
            trace_id, sampled, random = parent.trace_id, parent.sampled, parent.flags & TraceFlags.RANDOM_TRACE_ID
        elif parent is not None and (above := parent.get_span_context()).is_valid:
            trace_id, sampled = f"{above.trace_id:032x}", above.trace_flags.sampled
            random = above.trace_flags & TraceFlags.RANDOM_TRACE_ID
        else:
            trace_id, parent = f"{getrandbits(128):032x}", None
            sampled, random = int(trace_id[16:], 16) < self._bound, TraceFlags.RANDOM_TRACE_ID
        if not sampled or self._recorder is None:
            return Bearer(trace_id, f"{getrandbits(64):016x}", sampled | random)
        self._ids.trace_id = int(trace_id, 16)
        context = Context() if parent is None else trace.set_span_in_context(parent, Context())
        return self._recorder.start_span(name, context, kind, attributes, links, start_time)
