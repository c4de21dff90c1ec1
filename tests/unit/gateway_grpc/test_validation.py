import pathlib
import re
import string
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

import protovalidate
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import message_pb2 as pb

from gateway_grpc import validation
from gateway_grpc.validation import Rules, check, check_chunk, check_key, check_list, normalise, structural
from messaging.errors import InvalidRequest
from messaging.model import Lane

# protovalidate, the oracle, is another implementation of the rules that stand in the proto; what we wrote by hand must
# find exactly the same fields.

_ORACLE = protovalidate.Validator()


def oracle(message: Message) -> set[str]:
    """Give the paths of all fields that break a rule of the proto, in our spelling."""
    return {_path(violation.proto.field) for violation in _ORACLE.collect_violations(message)}


def _path(field: object) -> str:
    path = ""
    for element in getattr(field, "elements", ()):
        path += f".{element.field_name}" if path else element.field_name
        match element.subscript:
            case None:
                continue
            case subscript if subscript.field == "index":
                path += f"[{subscript.value}]"
            case subscript:
                path += f'["{subscript.value[:63]}"]'  # a path never echoes a key of any length
    return path


def ours(judge: Callable[[], object]) -> set[str]:
    """Give the paths of all fields that we refuse."""
    try:
        judge()
    except InvalidRequest as refused:
        return {field for field, _ in refused.violations}
    return set()


def of(faults: Iterable[tuple[str, str]]) -> set[str]:
    return {field for field, _ in faults}


# Texts that are nearly right: the alphabet of the rule, what lies beside it, line ends, digits of other scripts.
_ODD = "\0\n\r\t \x1f\x7f\u00a0٣éΩ+-._:/&()AZaz09\u2028👋"


def near(alphabet: str, *, longest: int) -> st.SearchStrategy[str]:
    right = st.text(alphabet=alphabet, max_size=longest + 2)
    return right | st.text(alphabet=alphabet + _ODD, max_size=12) | right.map(lambda text: text + "\n")


_DIGITS = string.digits
_ALNUM = string.ascii_letters + string.digits
_LONG = st.sampled_from([254, 255, 256, 257]).map(lambda size: "x" * size)
_RECIPIENTS = near("+" + _DIGITS + " ().-", longest=33) | st.sampled_from(["+233201234567", "", "123", "12", "+" * 3])
_BODIES = st.text(max_size=20) | st.sampled_from(["", "a" * 1600, "a" * 1601, "👋" * 1600, "👋" * 1601, "a\0"])
_SENDERS = near(_ALNUM + " ._&-+", longest=16)
_PROVIDERS = st.lists(
    near("ab09-", longest=3) | st.sampled_from(["alpha", "beta", "a" * 32, "a" * 33, ""]), max_size=12
)
_REQUEST_IDS = near(_ALNUM + "._:-", longest=20) | _LONG
_TEXTS = st.text(max_size=20) | _LONG | st.just("a\0b")
_CALLBACKS = st.sampled_from(
    [
        "",
        "http://",
        "http://h",
        "https://h/p?q=1",
        "HTTP://h",
        "ftp://h",
        "https://h ",
        "https://h\n",
        " https://h",
        "https://h\u00a0x",
        "https://h\x7f",
        "https://" + "h" * 2040,
        "https://" + "h" * 2041,
        "https://" + "é" * 2040,
    ]
) | near("htps:/.", longest=12)
_MANY_LABELS = st.sampled_from([{f"k{number}": "" for number in range(size)} for size in (15, 16, 17)])
_LABELS = _MANY_LABELS | st.dictionaries(
    near("az09_.-", longest=4) | st.sampled_from(["k" * 63, "k" * 64, "", 'a"b', "a]b"]),
    _TEXTS,
    max_size=5,
)
_TTLS = st.builds(
    Duration,
    seconds=st.sampled_from([0, 4, 5, 6, 259_199, 259_200, 259_201, -5]) | st.integers(-(10**6), 10**6),
    nanos=st.sampled_from([0, 0, 1, 999_999_999]),
)
_NOW = int(time.time())
_TIMES = st.builds(
    Timestamp,
    seconds=st.sampled_from([-3600, -360, -240, 0, 240, 3_023_900, 3_024_100, 4_000_000, -_NOW]).map(_NOW.__add__)
    | st.integers(0, 4 * 10**9).filter(lambda at: abs(at - _NOW + 300) > 60 and abs(at - _NOW - 3_024_000) > 60),
    nanos=st.sampled_from([0, 1, 999_999_999]),
)
_REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "recipient": _RECIPIENTS,
        "body": _BODIES,
        "sender": _SENDERS,
        "ttl": _TTLS,
        "schedule_time": _TIMES,
        "priority": st.integers(-1, 5),
        "providers": _PROVIDERS,
        "request_id": _REQUEST_IDS,
        "client_reference": _TEXTS,
        "callback_url": _CALLBACKS,
        "labels": _LABELS,
        "smart_encoding": st.booleans(),
    },
).map(lambda fields: api.SendSmsRequest(**cast("dict[str, Any]", fields)))

GOOD = api.SendSmsRequest(
    recipient="+233201234567",
    body="hello",
    sender="ACME",
    ttl=Duration(seconds=60),
    schedule_time=Timestamp(seconds=_NOW + 3600),
    priority=pb.PRIORITY_OTP,
    providers=["alpha", "beta"],
    request_id="order:7",
    client_reference="é",
    callback_url="https://example.com/hook",
    labels={"team": "x"},
)


@given(_REQUESTS)
@example(GOOD)
def test_message_is_judged_as_the_proto_judges_it(request_: api.SendSmsRequest) -> None:
    assert of(structural(request_, time.time())) == oracle(request_)


@pytest.mark.parametrize(
    ("field", "strategy"),
    {
        "recipient": _RECIPIENTS,
        "body": _BODIES,
        "sender": _SENDERS,
        "ttl": _TTLS,
        "schedule_time": _TIMES,
        "providers": _PROVIDERS,
        "request_id": _REQUEST_IDS,
        "client_reference": _TEXTS,
        "callback_url": _CALLBACKS,
        "labels": _LABELS,
    }.items(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_field_alone_is_judged_as_the_proto_judges_it(field: str, strategy: st.SearchStrategy[object]) -> None:
    seen: set[bool] = set()

    @given(strategy)
    def compare(value: object) -> None:
        request = api.SendSmsRequest()
        request.CopyFrom(GOOD)
        request.ClearField(cast("Any", field))
        request.MergeFrom(api.SendSmsRequest(**{field: value}))  # type: ignore[arg-type]
        found = of(structural(request, time.time()))
        assert found == oracle(request)
        seen.add(not found)

    compare()
    assert seen == {True, False}, "right and wrong values were both tried"


@given(st.sampled_from([0, 1, 2, 999, 1000, 1001]), st.integers(0, 2**64 - 1))
@settings(max_examples=12)
def test_frame_of_a_chunk_is_judged_as_the_proto_judges_it(count: int, sequence: int) -> None:
    request = api.BatchSendRequest(sequence=sequence, messages=[GOOD] * count)
    assert ours(lambda: check_chunk(request)) == oracle(request)


_UUIDS = st.uuids().map(str) | st.sampled_from(["", "x", "0" * 32, "{%s}" % ("0" * 32)]) | near("0af-", longest=36)
_KEYS: st.SearchStrategy[dict[str, str]] = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"message_id": _UUIDS | _UUIDS.map(str.upper) | _UUIDS.map(lambda text: text + "\n")}),
    st.fixed_dictionaries({"request_id": _REQUEST_IDS}),
)


@given(_KEYS)
@pytest.mark.parametrize("kind", [api.GetStatusRequest, api.CancelMessageRequest])
def test_name_of_a_message_is_judged_as_the_proto_judges_it(
    kind: type[api.GetStatusRequest], key: dict[str, str]
) -> None:
    request = kind(**key)
    which = request.WhichOneof("key")
    value = getattr(request, which) if which else ""
    assert ours(lambda: check_key(which, value)) == oracle(request)


@given(_UUIDS)
def test_message_to_watch_is_judged_as_the_proto_judges_it(message_id: str) -> None:
    request = api.WatchStatusRequest(message_id=message_id)
    assert ours(lambda: check_key("message_id", request.message_id)) == oracle(request)


_LISTS = st.fixed_dictionaries(
    {},
    optional={
        "page_size": st.sampled_from([0, 1, 500, 501, 2**32 - 1]),
        "page_token": st.sampled_from(["", "x" * 512, "x" * 513, "é" * 512]),
        "start_time": _TIMES,
        "end_time": _TIMES,
        "states": st.lists(st.integers(-1, 14), max_size=14),
        "provider": near("ab09-", longest=33),
        "recipient": near("+0123", longest=16),
        "client_reference": _TEXTS,
    },
).map(lambda fields: api.ListMessagesRequest(**cast("dict[str, Any]", fields)))


@given(_LISTS)
def test_listing_is_judged_as_the_proto_judges_it(request_: api.ListMessagesRequest) -> None:
    assert ours(lambda: check_list(request_)) == oracle(request_)


def test_estimate_wants_a_message_as_the_proto_does() -> None:
    assert oracle(api.EstimateSmsRequest()) == {"message"}
    assert oracle(api.EstimateSmsRequest(message=api.SendSmsRequest())) == {"message.recipient", "message.body"}


# Beyond the proto

RULES = Rules(("alpha", "beta"))
NOW = 1_700_000_000.0


def request_of(**fields: object) -> api.SendSmsRequest:
    return api.SendSmsRequest(**{"recipient": "+233201234567", "body": "hi", **fields})  # type: ignore[arg-type]


def refused(request: api.SendSmsRequest, rules: Rules = RULES, prefix: str = "") -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        check(request, rules, NOW, prefix)
    return dict(caught.value.violations)


def test_all_faults_are_found_at_once_behind_the_prefix() -> None:
    request = request_of(recipient="", body="", sender="?", priority=9, providers=["gamma", "A"], labels={"K": "\0"})
    assert set(refused(request, prefix="messages[3].")) == {
        "messages[3].recipient",
        "messages[3].body",
        "messages[3].sender",
        "messages[3].priority",
        "messages[3].providers[0]",
        "messages[3].providers[1]",
        'messages[3].labels["K"]',
    }


def test_no_fault_echoes_a_text_or_a_number() -> None:
    request = request_of(recipient="+2332012345678901", body="secret\0text", sender="secret!!", callback_url="secret")
    shown = str(refused(request))
    assert "secret" not in shown
    assert "2332012345678901" not in shown


@pytest.mark.parametrize(
    ("body", "segments"), [("a" * 1530, 10), ("a" * 1531, 11), ("ж" * 670, 10), ("ж" * 671, 11), ("a" * 1600, 11)]
)
def test_at_most_ten_segments_are_accepted(body: str, segments: int) -> None:
    if segments <= 10:
        assert check(request_of(body=body), RULES, NOW).measure.segments == segments
    else:
        assert f"needs {segments} segments" in refused(request_of(body=body))["body"]


@pytest.mark.parametrize(
    ("number", "region", "strict", "e164"),
    [
        ("+233201234567", "", False, "+233201234567"),
        ("+233 (20) 123-45.67", "", False, "+233201234567"),
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
def test_number_is_brought_to_e164_or_refused(number: str, region: str, strict: bool, e164: str) -> None:  # noqa: FBT001
    found, _, fault = normalise(number, Rules((), region, strict))
    assert found == e164
    assert bool(fault) == (not e164)
    assert number not in fault


def test_refusal_of_a_number_names_the_cure() -> None:
    _, _, fault = normalise("0201234567", Rules(()))
    assert fault.startswith("is no phone number: write it in E.164, such as +233201234567")
    assert "SMSGW_DEFAULT_REGION" in fault
    for number, region in (("+999123456789", ""), ("0", "GH")):
        assert "SMSGW_DEFAULT_REGION" not in normalise(number, Rules((), region))[2], "it would not help"
    assert refused(request_of(recipient="+23"))["recipient"] == (
        "is no phone number: it needs 3 to 32 digits, spaces and ().-, after an optional +, such as +233201234567"
    )


def test_region_of_the_number_is_told() -> None:
    assert check(request_of(), RULES, NOW).region == "GH"


def test_provider_that_is_not_configured_is_named_with_those_that_are() -> None:
    assert refused(request_of(providers=["alpha", "gamma"])) == {
        "providers[1]": "is not configured here; there are alpha, beta"
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


def test_every_pattern_is_the_protos_own() -> None:
    """A pattern is written twice: here and in the proto."""
    proto = pathlib.Path(__file__).parents[3] / "proto/sms/gateway/v1/gateway.proto"
    written = set(re.findall(r'pattern(?: =|:) "\^(.*)\$"', proto.read_text(encoding="utf-8")))
    for pattern in (validation.RECIPIENT, validation.SENDER, validation.PROVIDER, validation.REQUEST_ID):
        assert pattern.pattern in written
