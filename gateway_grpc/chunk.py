"""Reads the frame of a chunk, so that its messages can be counted and measured before any of them is decoded. Pure.

A chunk of 4 MiB can hold two million empty messages, which decoded take a hundred times as much memory.
"""

from collections.abc import Iterator

import attrs
from google.protobuf.message import DecodeError
from sms.gateway.v1 import gateway_pb2 as api

from gateway_grpc.validation import MAX_CHUNK, check_chunk
from messaging.errors import InvalidRequest, RequestTooLarge

MAX_MESSAGE_BYTES = 65_536
"""Size limit of one message; the largest one that is valid has about 35,000 bytes."""

_MAX_OTHERS = 64
"""How many fields besides messages may be in a chunk: one that this version knows, and some that it does not."""

_NO_CHUNK = [("request", "cannot be parsed: it is not a BatchSendRequest")]
_SEQUENCE, _MESSAGES = (
    api.BatchSendRequest.DESCRIPTOR.fields_by_name[name].number for name in ("sequence", "messages")
)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
_U64 = (1 << 64) - 1


@attrs.frozen
class Chunk:
    """A chunk whose messages are not decoded yet; whoever has worked on it clears them."""

    sequence: int
    messages: list[bytes]


def read_chunk(raw: bytes) -> Chunk:
    """Read the frame of a BatchSendRequest; raises InvalidRequest when it is none, or has too many messages."""
    sequence, messages, others = 0, list[bytes](), 0
    try:
        for number, value in _fields(raw):
            if number == _MESSAGES and isinstance(value, bytes):
                messages.append(value)
            else:
                others += 1
                if number == _SEQUENCE and isinstance(value, int):
                    sequence = value
            if len(messages) > MAX_CHUNK or others > _MAX_OTHERS:
                break
    except (ValueError, IndexError) as exc:
        raise InvalidRequest(_NO_CHUNK) from exc
    if others > _MAX_OTHERS:
        raise InvalidRequest(_NO_CHUNK)
    chunk = Chunk(sequence, messages)
    check_chunk(chunk)
    return chunk


def read_message(raw: bytes) -> api.SendSmsRequest:
    """Decode one message of a chunk; raises InvalidRequest."""
    if len(raw) > MAX_MESSAGE_BYTES:
        raise RequestTooLarge("message", len(raw), MAX_MESSAGE_BYTES, "shorten it")
    try:
        return api.SendSmsRequest.FromString(raw)
    except DecodeError as exc:
        raise InvalidRequest([("message", "cannot be parsed: it is not a SendSmsRequest")]) from exc


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (number, value) of each field: an int for a varint, else bytes. Raises ValueError, IndexError."""
    at, end = 0, len(raw)
    while at < end:
        tag, at = _varint(raw, at)
        number, kind = tag >> 3, tag & 7
        if not number:
            raise ValueError(tag)
        if kind == _VARINT:
            value, at = _varint(raw, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(raw, at)
        elif kind in {_FIXED64, _FIXED32}:
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(kind)
        if at + size > end:
            raise ValueError(size)
        yield number, raw[at : at + size]
        at += size


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    byte = raw[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = 0, 0
    for index in range(at, at + _LONGEST_VARINT):
        byte = raw[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _U64, index + 1
        shift += 7
    raise ValueError(at)
