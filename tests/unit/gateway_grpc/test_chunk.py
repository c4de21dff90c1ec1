"""The frame of a chunk is read as protobuf reads it, and no further than its limits."""

import tracemalloc

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from sms.gateway.v1 import gateway_pb2 as api

from gateway_grpc.chunk import MAX_MESSAGE_BYTES, read_chunk, read_message
from messaging.errors import InvalidRequest

SMS = api.SendSmsRequest(recipient="+233201234567", body="hello", labels={"team": "x"})


@given(st.integers(0, 2**64 - 1), st.lists(st.text(max_size=200), min_size=1, max_size=20))
def test_a_chunk_is_read_as_protobuf_reads_it(sequence: int, bodies: list[str]) -> None:
    request = api.BatchSendRequest(sequence=sequence, messages=[api.SendSmsRequest(body=body) for body in bodies])
    chunk = read_chunk(request.SerializeToString())
    assert chunk.sequence == sequence
    assert [read_message(one) for one in chunk.messages] == list(request.messages)


@given(st.binary(max_size=60))
def test_what_protobuf_refuses_is_refused_and_nothing_else_breaks(raw: bytes) -> None:
    try:
        expected = api.BatchSendRequest.FromString(raw)
    except DecodeError:
        expected = None
    try:
        chunk = read_chunk(raw)
        found = api.BatchSendRequest(sequence=chunk.sequence, messages=[read_message(one) for one in chunk.messages])
    except InvalidRequest:
        return
    assert expected is not None
    expected.DiscardUnknownFields()
    found.DiscardUnknownFields()
    assert found == expected


def test_fields_of_a_newer_version_are_skipped() -> None:
    newer = b"\x1a\x03abc" + b"\x25abcd" + b"\x29abcdefgh" + b"\x30\xff\x01"
    chunk = read_chunk(newer + api.BatchSendRequest(sequence=7, messages=[SMS]).SerializeToString() + newer)
    assert (chunk.sequence, chunk.messages) == (7, [SMS.SerializeToString()])


@pytest.mark.parametrize("raw", [b"\x12\x00" * 2_000_000, b"\x7a\x00" * 2_000_000, b"\x08\x01" * 2_000_000 + b"\x12"])
def test_a_chunk_with_too_many_fields_costs_no_memory(raw: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest):
            read_chunk(raw)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_message_that_is_too_long_is_not_decoded() -> None:
    with pytest.raises(InvalidRequest, match=f"at most {MAX_MESSAGE_BYTES} are read: shorten it"):
        read_message(b"\xff" * (MAX_MESSAGE_BYTES + 1))


def test_the_largest_valid_message_fits() -> None:
    largest = api.SendSmsRequest(
        recipient="1" * 32,
        body="👋" * 1600,
        providers=["p" * 32] * 10,
        request_id="r" * 255,
        client_reference="👋" * 255,
        callback_url="https://" + "é" * 2040,
        labels={f"{number:063}": "👋" * 255 for number in range(16)},
    )
    assert largest.ByteSize() < MAX_MESSAGE_BYTES
    assert read_message(largest.SerializeToString()) == largest
