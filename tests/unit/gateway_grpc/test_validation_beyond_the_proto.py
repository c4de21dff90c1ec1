"""The rules that the proto cannot express: numbers, segments, providers, deadlines."""

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import message_pb2 as pb

from gateway_grpc.numbers import to_e164
from gateway_grpc.validation import Rules, check
from messaging.errors import InvalidRequest
from messaging.model import Lane

RULES = Rules(("alpha", "beta"))
NOW = 1_700_000_000.0


def request_of(**fields: object) -> api.SendSmsRequest:
    return api.SendSmsRequest(**{"recipient": "+233201234567", "body": "hi", **fields})  # type: ignore[arg-type]


def refused(request: api.SendSmsRequest, rules: Rules = RULES, prefix: str = "") -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        check(request, rules, NOW, prefix)
    return dict(caught.value.violations)


def test_all_faults_are_reported_together_with_the_prefix() -> None:
    request = request_of(recipient="", body="", sender="?", priority=9, providers=["gamma", "A"], labels={"K": "\0"})
    assert set(refused(request, prefix="messages[3].")) == {
        "messages[3].recipient",
        "messages[3].body",
        "messages[3].sender",
        "messages[3].priority",
        "messages[3].providers[0]",
        "messages[3].providers[1]",
        "messages[3].labels",
    }


def test_no_fault_repeats_a_text_or_a_number() -> None:
    request = request_of(recipient="+2332012345678901", body="secret\0text", sender="secret!!", callback_url="secret")
    shown = str(refused(request))
    assert "secret" not in shown
    assert "2332012345678901" not in shown


@pytest.mark.parametrize(("body", "segments"), [("a" * 1530, 10), ("ж" * 670, 10), ("ж" * 671, 11), ("€" * 765, 11)])
def test_at_most_ten_segments_are_accepted(body: str, segments: int) -> None:
    if segments <= 10:
        assert check(request_of(body=body), RULES, NOW).segmentation.segments == segments
    else:
        assert f"needs {segments} segments" in refused(request_of(body=body))["body"]


@pytest.mark.parametrize(
    ("number", "region", "strict", "e164"),
    [
        ("+233201234567", "", False, "+233201234567"),
        ("+233 (20) 123-4567", "", False, "+233201234567"),
        ("0201234567", "GH", False, "+233201234567"),
        ("0201234567", "", False, ""),  # national, and no region to read it by
        ("+15551234567", "", False, "+15551234567"),  # possible, though not assigned
        ("+15551234567", "", True, ""),
        ("+447700900123", "", True, ""),
        ("+233201234567", "", True, "+233201234567"),
        ("01921317475", "BD", False, "+8801921317475"),
        ("+2335012", "", False, ""),
        ("+2332012345678", "", False, ""),
        ("+999123456789", "", False, ""),
        ("---", "", False, ""),
    ],
)
def test_number_is_converted_to_e164_or_refused(number: str, region: str, strict: bool, e164: str) -> None:  # noqa: FBT001
    found, fault = to_e164(number, region, strict=strict)
    assert found == e164
    assert bool(fault) == (not e164)
    assert number not in fault


def test_refusal_of_a_number_says_what_to_do_and_no_setting_of_the_operator() -> None:
    cure = "write it with + and its country code, such as +233201234567"
    assert to_e164("0201234567", "") == ("", f"is not a phone number: {cure}")
    assert to_e164("00233201234567", "") == ("", f"begins with 00: {cure}")
    assert to_e164("+2335012", "") == ("", f"has too few or too many digits for its country: {cure}")
    assert refused(request_of(recipient="+23"))["recipient"] == (
        "is not a phone number; it must be 3 to 32 digits, spaces and ().-, after an optional +"
    )
    for number in ("0201234567", "00233201234567", "+999123456789", "020/1234567"):
        assert "SMSGW" not in refused(request_of(recipient=number))["recipient"]


def test_region_of_the_number_is_found() -> None:
    assert check(request_of(), RULES, NOW).region == "GH"


def test_provider_that_is_not_configured_is_refused_with_the_names_of_those_that_are() -> None:
    assert refused(request_of(providers=["alpha", "gamma"])) == {
        "providers[1]": "is not configured; the providers are alpha, beta"
    }


@pytest.mark.parametrize(
    ("priority", "lane", "ttl_s"),
    [
        (pb.PRIORITY_UNSPECIFIED, Lane.NORMAL, 86_400),
        (pb.PRIORITY_OTP, Lane.OTP, 600),
        (pb.PRIORITY_NORMAL, Lane.NORMAL, 86_400),
        (pb.PRIORITY_BULK, Lane.BULK, 86_400),
    ],
)
def test_lane_and_deadline_follow_from_the_priority(priority: int, lane: Lane, ttl_s: float) -> None:
    checked = check(request_of(priority=priority), RULES, NOW)
    assert (checked.lane, checked.schedule, checked.deadline) == (lane, None, NOW + ttl_s)


def test_deadline_counts_from_the_schedule_and_a_schedule_just_past_means_now() -> None:
    ttl = Duration(seconds=30, nanos=500_000_000)
    ahead = check(request_of(ttl=ttl, schedule_time=Timestamp(seconds=int(NOW) + 100)), RULES, NOW)
    assert (ahead.schedule, ahead.deadline) == (NOW + 100, NOW + 130.5)
    past = check(request_of(ttl=ttl, schedule_time=Timestamp(seconds=int(NOW) - 100)), RULES, NOW)
    assert (past.schedule, past.deadline) == (None, NOW + 30.5)
