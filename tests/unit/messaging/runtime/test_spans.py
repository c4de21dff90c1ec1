"""Traces travel whether or not anybody records them, and only what is exported costs a span of the SDK."""

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from messaging.runtime import telemetry
from messaging.runtime.config import ProcessSettings
from messaging.runtime.spans import Bearer, ChosenIds, Tracer

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLER = f"00-{TRACE}-{SPAN}-01"
SDK = TraceContextTextMapPropagator()

ids = st.sampled_from([TRACE, SPAN, TRACE.upper(), TRACE[:-1], "0" * 32, "0" * 16, "f" * 32, "f" * 16, "_" * 16, ""])
flags = st.sampled_from(["00", "01", "02", "ff", "FF", "1", "+1", "0x", " 1"])
versions = st.sampled_from(["00", "01", "cc", "fe", "ff", "FF", "0", " 0", "\t00", "000"])
ends = st.sampled_from(["", "-", "-what", " ", "\t ", "x", "- ", "-" * 600])
nearly = st.builds(lambda *parts: "-".join(parts[:4]) + parts[4], versions, ids, ids, flags, ends)
anything = st.text(alphabet="0123456789abcdefABCDEF- \t_+", max_size=70)


def read(context: Context) -> tuple[int, int, int, str]:
    one = trace.get_current_span(context).get_span_context()
    return one.trace_id, one.span_id, one.trace_flags, one.trace_state.to_header()


@given(traceparent=nearly | anything, tracestate=st.sampled_from(["", "a=b", "a=b,c=d", "?", "a=" + "x" * 600]))
@example(CALLER, "vendor=1")
@example(f"01-{TRACE}-{SPAN}-01-more", "")
@example(f"00-{TRACE}-{SPAN}-01-more", "")
@example(f"00-{TRACE}-{'0' * 16}-01", "")
@example(f"00-{'0' * 32}-{SPAN}-01", "")
@example(f"ff-{TRACE}-{SPAN}-01", "")
@example(f"  00-{TRACE}-{SPAN}-00\t", "")
@example(f"01-{TRACE}-{SPAN}-01-" + "x" * 600, "")
def test_a_traceparent_means_what_it_means_to_the_sdk(traceparent: str, tracestate: str) -> None:
    headers = {"traceparent": traceparent} | ({"tracestate": tracestate} if tracestate else {})
    oracle, written = SDK.extract(headers, context=Context()), dict[str, str]()
    span = telemetry.caller_of(headers) or trace.INVALID_SPAN
    context = trace.set_span_in_context(span, Context())
    assert read(context) == read(oracle)
    SDK.inject(written, context)
    assert telemetry.traceparent_of(span) == written.get("traceparent", "")
    assert telemetry.trace_id(span) == f"{span.get_span_context().trace_id:032x}"


@pytest.fixture
def exported() -> Iterator[tuple[InMemorySpanExporter, ChosenIds, trace.Tracer]]:
    sink, chosen = InMemorySpanExporter(), ChosenIds()
    provider = TracerProvider(id_generator=chosen, resource=Resource.get_empty(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(sink))
    yield sink, chosen, provider.get_tracer("test")
    provider.shutdown()


@pytest.mark.parametrize("traceparent", ["", *(f"00-{TRACE}-{SPAN}-0{flag}" for flag in range(8))])
@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_a_span_that_nobody_records_has_the_flags_that_the_sdk_would_give(traceparent: str, ratio: float) -> None:
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(ratio)), resource=Resource.get_empty(), shutdown_on_exit=False
    )
    caller = telemetry.caller_of(traceparent)
    context = Context() if caller is None else trace.set_span_in_context(caller, Context())
    oracle = provider.get_tracer("oracle").start_span("x", context)
    ours = Tracer(None, ChosenIds(), ratio).start("x", caller)
    assert ours.get_span_context().trace_flags == oracle.get_span_context().trace_flags


def test_without_an_endpoint_the_callers_trace_goes_on_under_a_new_span() -> None:
    with telemetry.open_tracer(ProcessSettings(), "gateway") as tracer:
        for flag in ("00", "01"):
            with telemetry.span(tracer, "step", telemetry.caller_of(f"00-{TRACE}-{SPAN}-{flag}")) as span:
                version, trace_id, span_id, passed = telemetry.traceparent_of(span).split("-")
                assert (version, trace_id, passed) == ("00", TRACE, flag)
                assert span_id not in {SPAN, "0" * 16}
                assert telemetry.trace_id(span) == TRACE
                assert not span.is_recording()


def test_a_trace_that_begins_here_is_new_and_sampled_by_the_ratio() -> None:
    tracers = {ratio: Tracer(None, ChosenIds(), ratio) for ratio in (0.0, 0.5, 1.0)}
    spans = {ratio: [tracer.start("x", None) for _ in range(400)] for ratio, tracer in tracers.items()}
    assert len({telemetry.trace_id(one) for found in spans.values() for one in found}) == 1200
    sampled = {ratio: sum(one.get_span_context().trace_flags & 1 for one in found) for ratio, found in spans.items()}
    assert (sampled[0.0], sampled[1.0]) == (0, 400)
    assert 100 < sampled[0.5] < 300


def test_only_what_is_sampled_becomes_a_span_of_the_sdk(
    exported: tuple[InMemorySpanExporter, ChosenIds, trace.Tracer],
) -> None:
    sink, chosen, recorder = exported
    tracer = Tracer(recorder, chosen, 0.0)
    for flag in ("00", "01"):
        caller = telemetry.caller_of({"traceparent": f"00-{TRACE}-{SPAN}-{flag}", "tracestate": "vendor=1"})
        tracer.start("step", caller, attributes={"a": 1}).end()
    assert isinstance(tracer.start("root", None), Bearer)
    (span,) = sink.get_finished_spans()
    assert span.parent is not None
    assert span.context is not None
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, SPAN)
    assert (span.parent.is_remote, span.context.trace_state.to_header()) == (True, "vendor=1")
    assert span.attributes == {"a": 1}


def test_every_recorded_trace_that_begins_here_has_an_id_of_its_own(
    exported: tuple[InMemorySpanExporter, ChosenIds, trace.Tracer],
) -> None:
    sink, chosen, recorder = exported
    tracer = Tracer(recorder, chosen, 1.0)
    opened = [tracer.start("root", None) for _ in range(3)]
    for span in opened:
        span.end()
    ids = [telemetry.trace_id(span) for span in opened]
    assert [f"{one.context.trace_id:032x}" for one in sink.get_finished_spans() if one.context] == ids
    assert len(set(ids)) == 3
    assert all(telemetry.traceparent_of(span).endswith("-03") for span in opened)


def test_what_is_recorded_goes_on_below_whatever_the_ratio(
    exported: tuple[InMemorySpanExporter, ChosenIds, trace.Tracer],
) -> None:
    sink, chosen, recorder = exported
    tracer = Tracer(recorder, chosen, 0.0)
    with (
        telemetry.span(tracer, "door", telemetry.caller_of(CALLER)) as door,
        telemetry.span(tracer, "publish", door) as publish,
    ):
        assert telemetry.trace_id(publish) == telemetry.trace_id(door) == TRACE
    inner, outer = sink.get_finished_spans()
    assert inner.parent is not None
    assert outer.context is not None
    assert inner.parent.span_id == outer.context.span_id
