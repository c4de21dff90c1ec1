import pathlib
import re
import string
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import message_pb2 as pb

from gateway_grpc import validation
from gateway_grpc.validation import check_chunk, check_estimate, check_key, check_list, structural
from tests.oracle import broken_rules, refused_fields

# The checks written by hand must refuse exactly the fields that the oracle refuses.


def oracle(message: Message) -> set[str]:
    """Return the paths of all fields that break a rule of the proto, in our notation."""
    return {field for field, _ in broken_rules(message)}


def ours(judge: Callable[[], object]) -> set[str]:
    """Return the paths of all fields that we refuse."""
    return set(refused_fields(judge))


def of(faults: Iterable[tuple[str, str]]) -> set[str]:
    return {field for field, _ in faults}


# Texts that are nearly valid: the rule's alphabet, its neighbours, line ends, digits of other scripts.
_ODD = "\0\n\r\t \x1f\x7f\u00a0٣éΩ+-._:/&()AZaz09\u2028👋"


def near(alphabet: str, *, longest: int) -> st.SearchStrategy[str]:
    right = st.text(alphabet=alphabet, max_size=longest + 2)
    return right | st.text(alphabet=alphabet + _ODD, max_size=12) | right.map(lambda text: text + "\n")


_DIGITS = string.digits
_ALNUM = string.ascii_letters + string.digits
_LONG = st.sampled_from([254, 255, 256, 257]).map(lambda size: "x" * size)
_RECIPIENTS = near("+" + _DIGITS + " ().-", longest=33) | st.sampled_from(["+233201234567", "", "123", "12", "+" * 3])
_BODIES = st.text(max_size=20) | st.sampled_from(["", "a" * 1530, "a" * 1531, "👋" * 1530, "👋" * 1531, "a\0"])
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

    @settings(max_examples=max(25, settings().max_examples))  # enough to see both verdicts
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
    empty = api.EstimateSmsRequest()
    assert ours(lambda: check_estimate(empty)) == oracle(empty) == {"message"}
    assert oracle(api.EstimateSmsRequest(message=api.SendSmsRequest())) == {"message.recipient", "message.body"}


def test_every_pattern_is_the_protos_own() -> None:
    """A pattern is written twice: here and in the proto."""
    proto = pathlib.Path(__file__).parents[3] / "proto/sms/gateway/v1/gateway.proto"
    written = set(re.findall(r'pattern(?: =|:) "\^(.*)\$"', proto.read_text(encoding="utf-8")))
    for pattern in (validation.RECIPIENT, validation.SENDER, validation.PROVIDER, validation.REQUEST_ID):
        assert pattern.pattern in written
