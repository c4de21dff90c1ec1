"""What attackers send: bytes that no client of ours would send, for methods of the gateway."""

import itertools
import random
from collections.abc import Iterator

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import message_pb2 as pb

Payload = tuple[str, bytes]
"""A method's name, and the bytes of its request."""

_UNARY = ("SendSms", "GetStatus", "ListMessages", "CancelMessage", "EstimateSms")
_ID = "018bcfe5-6800-7000-8000-000000000000"


def _sms(**fields: object) -> api.SendSmsRequest:
    return api.SendSmsRequest(**{"recipient": "+233201234567", "body": "hello", **fields})  # type: ignore[arg-type]


def large(elements: int) -> list[Payload]:
    """Return requests with so many elements in one field, or as long a text."""
    labels = _sms(labels={f"{number:x}": "" for number in range(elements)})
    names = _sms(providers=["p"] * elements)
    text = _sms(body="é" * elements)
    states = api.ListMessagesRequest(states=[pb.MESSAGE_STATE_SENT] * elements)
    return [
        ("SendSms", labels.SerializeToString()),
        ("SendSms", names.SerializeToString()),
        ("SendSms", text.SerializeToString()),
        ("SendSms", _sms(callback_url="https://" + "h" * elements).SerializeToString()),
        ("EstimateSms", api.EstimateSmsRequest(message=labels).SerializeToString()),
        ("EstimateSms", api.EstimateSmsRequest(message=names).SerializeToString()),
        ("ListMessages", states.SerializeToString()),
        ("ListMessages", api.ListMessagesRequest(page_token="x" * elements).SerializeToString()),
        ("GetStatus", api.GetStatusRequest(request_id="x" * elements).SerializeToString()),
        ("CancelMessage", b"\x7a\x00" * elements),
    ]


def malformed(seed: int) -> list[Payload]:
    """Return requests that cannot be decoded, and times that are none."""
    chance = random.Random(seed)
    garbage = [(name, chance.randbytes(chance.randint(1, 200)) + b"\xff") for name in _UNARY for _ in range(8)]
    odd = ({"nanos": -1}, {"nanos": 2**31 - 1}, {"seconds": 2**62}, {"seconds": -(2**63)}, {"seconds": 253402300800})
    times = [
        one
        for value in odd
        for one in (
            ("ListMessages", api.ListMessagesRequest(start_time=Timestamp(**value)).SerializeToString()),
            ("ListMessages", api.ListMessagesRequest(end_time=Timestamp(**value)).SerializeToString()),
            ("SendSms", _sms(schedule_time=Timestamp(**value)).SerializeToString()),
            ("SendSms", _sms(ttl=Duration(**value)).SerializeToString()),
        )
    ]
    return [*garbage, *times]


def requests(seed: int) -> Iterator[Payload]:
    """Yield hostile requests without end; one in fifty is large, and one in five hundred has three megabytes."""
    small = malformed(seed)
    medium, huge = large(30_000), large(1_000_000)
    for number in itertools.count():
        if number % 500 == 0:
            yield huge[number // 500 % len(huge)]
        elif number % 50 == 0:
            yield medium[number // 50 % len(medium)]
        else:
            yield small[number % len(small)]


def refused_chunk() -> bytes:
    """Return a small chunk of 1,000 messages that are all refused."""
    return api.BatchSendRequest(messages=[api.SendSmsRequest(recipient="?")] * 1000).SerializeToString()


def full_chunk(size_bytes: int) -> bytes:
    """Return a chunk of nearly this size, with 1,000 messages that are refused, each with its labels."""
    labels = {f"label-{number}": "x" * 200 for number in range(16)}
    message = _sms(recipient="?", labels=labels)
    room = size_bytes // 1000 - message.ByteSize() - 8
    message.callback_url = "h" * max(0, room)
    return api.BatchSendRequest(messages=[message] * 1000).SerializeToString()[:size_bytes]


def many_empty_messages(size_bytes: int) -> bytes:
    """Return a chunk of as many empty messages as fit."""
    return b"\x12\x00" * (size_bytes // 2)
