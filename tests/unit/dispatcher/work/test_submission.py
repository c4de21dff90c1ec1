"""Every field of a message reaches the provider's dialect and its templates, or is left out on purpose."""

from typing import Any

import attrs
import pytest
from sms.dispatch.v1 import dispatch_pb2 as wire

from dispatcher.work.attempt import submission_of
from providers.base import Submission
from providers.http_template import NOTHING, values_of
from tests.descriptors import changed, fields_of, filled

COMMAND = filled(wire.Command)

GIVEN = {"message_id", "recipient", "body", "sender", "segments", "encoding"}
"""Fields of a command that a dialect is given."""

KEPT = {
    "client": "whose message it is concerns no provider",
    "request_id": "the caller's; a provider is given our message_id",
    "priority": "it decides the lane, not the call",
    "providers": "it decides which provider is called",
    "provider": "as providers",
    "route_reason": "told to the caller only",
    "accept_time": "a provider is given the time that is left",
    "schedule_time": "a message is sent when it is due",
    "deadline": "given as validity_s, because a replay may have moved it",
    "client_reference": "the caller's own",
    "callback_url": "we call it, not the provider",
    "labels": "the caller's own",
    "fingerprint": "tells repeats apart at acceptance",
    "traceparent": "a provider is given the span of the call",
}
"""Fields of a command that no dialect is given, and why."""


def submission(command: wire.Command) -> Submission:
    return submission_of(command, 3, 59.5, "00-trace")


def test_every_field_of_a_command_is_given_to_the_dialect_or_kept_for_a_reason() -> None:
    told = sorted([*GIVEN, *KEPT])
    assert told == sorted(fields_of(wire.Command)), "say in tests/unit/dispatcher/work/test_submission.py where it goes"


@pytest.mark.parametrize("field", sorted(GIVEN))
def test_a_field_that_is_given_changes_the_submission(field: str) -> None:
    assert submission(changed(COMMAND, field)) != submission(COMMAND)


@pytest.mark.parametrize("field", sorted(KEPT))
def test_a_field_that_is_kept_does_not(field: str) -> None:
    assert submission(changed(COMMAND, field)) == submission(COMMAND)


@pytest.mark.parametrize("field", [field.name for field in attrs.fields(Submission) if field.name != "traceparent"])
def test_every_field_of_a_submission_is_a_value_for_templates(field: str) -> None:
    one = submission(COMMAND)
    value = getattr(one, field)
    other: Any = not value if isinstance(value, bool) else f"{value}x" if isinstance(value, str) else value + 7
    change: dict[str, Any] = {field: other}
    assert values_of(attrs.evolve(one, **change), "") != values_of(one, ""), "add it to values_of"


def test_a_template_is_checked_with_every_value_that_it_can_use() -> None:
    assert set(NOTHING) == set(values_of(submission(COMMAND), ""))


def test_nothing_has_a_default_that_could_hide_a_forgotten_field() -> None:
    assert all(field.default is attrs.NOTHING and field.kw_only for field in attrs.fields(Submission))
