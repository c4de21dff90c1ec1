"""What `Bearer` takes for granted of OpenTelemetry: it derives from NonRecordingSpan and never runs its `__init__`."""

import inspect
from typing import Any
from unittest.mock import Mock

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from messaging.runtime.spans import Bearer

METHODS = sorted(name for name, _ in inspect.getmembers(trace.Span, inspect.isfunction) if not name.startswith("_"))


def bearer() -> Bearer:
    return Bearer("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 1)


def test_there_are_the_methods_that_a_span_had() -> None:
    assert {"end", "get_span_context", "is_recording", "set_attribute", "set_status"} <= set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_no_method_of_a_span_needs_what_the_parents_init_would_have_set(name: str) -> None:
    one = bearer()
    wanted: list[Any] = [
        Mock()
        for parameter in inspect.signature(getattr(one, name)).parameters.values()
        if parameter.default is parameter.empty
    ]
    getattr(one, name)(*wanted)


def test_it_is_a_context_manager_and_has_words_for_itself() -> None:
    with bearer() as one:
        assert "0af7651916cd43dd8448eb211c80319c" in repr(one)


def test_the_sdk_asks_a_parent_for_its_context_and_for_nothing_else() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    child = provider.get_tracer("test").start_span("x", trace.set_span_in_context(bearer()))
    assert f"{child.get_span_context().trace_id:032x}" == bearer().trace_id
    provider.shutdown()
