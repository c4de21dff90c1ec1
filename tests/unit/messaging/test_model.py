import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sms.gateway.v1 import message_pb2 as pb

from messaging import model
from messaging.errors import CorruptRecord
from messaging.model import KEY_BYTES, address_of, key_from_bytes, key_of_request, mask, new_address, parse_address

KEYS = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES).map(key_from_bytes)
TIMES = st.integers(0, 2**48 - 1)
CLIENTS = st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789_-", min_size=1, max_size=64)


@given(KEYS, TIMES)
def test_every_message_id_is_a_uuid_of_version_7(key: str, now_ms: int) -> None:
    found = uuid.UUID(new_address("default", now_ms, key).message_id)
    assert (found.version, found.variant) == (7, uuid.RFC_4122)
    assert found.int >> 80 == now_ms, "ids are ordered in time"


@given(CLIENTS, KEYS, TIMES)
def test_address_is_read_back_from_id_and_from_subject(client: str, key: str, now_ms: int) -> None:
    address = new_address(client, now_ms, key)
    assert address_of(client, address.message_id) == address
    assert address_of(client, address.message_id.upper()) == address
    assert parse_address(f"sms.send.alpha.otp.{address}") == address
    assert parse_address(f"sms.event.{address}") == address


@given(st.binary(min_size=1, max_size=200), CLIENTS, st.text(max_size=300))
def test_same_request_id_has_the_same_key(secret: bytes, client: str, request_id: str) -> None:
    key = key_of_request(secret, client, request_id)
    assert key == key_of_request(secret, client, request_id)
    assert model._KEY.fullmatch(key)


def test_key_depends_on_secret_client_and_request_id() -> None:
    keys = {
        key_of_request(secret, client, request_id)
        for secret in (b"one", b"two")
        for client in ("a", "b")
        for request_id in ("", "1", "2", "1\0", "\x001")
    }
    assert len(keys) == 2 * 2 * 5


def test_random_keys_differ_in_all_their_free_bits() -> None:
    ones = int(key_from_bytes(b"\xff" * KEY_BYTES), 16)
    zeros = int(key_from_bytes(b"\0" * KEY_BYTES), 16)
    assert (ones ^ zeros).bit_count() == 8 * KEY_BYTES - 6


ADDRESS = new_address("default", 1_700_000_000_000, key_from_bytes(b"k" * KEY_BYTES))


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "sms",
        "sms.event",
        f"{ADDRESS.key}.{ADDRESS.time}",
        f"sms.event.default.{ADDRESS.key}",
        f"sms.event.{ADDRESS}.more",
        f"sms.event.Default.{ADDRESS.key}.{ADDRESS.time}",
        f"sms.event..{ADDRESS.key}.{ADDRESS.time}",
        f"sms.event.{'c' * 65}.{ADDRESS.key}.{ADDRESS.time}",
        f"sms.event.default.{ADDRESS.key}.{ADDRESS.time}\n",
        f"sms.event.default.4{ADDRESS.key[1:]}.{ADDRESS.time}",  # another version
        f"sms.event.default.{ADDRESS.key[:4]}c{ADDRESS.key[5:]}.{ADDRESS.time}",  # another variant
        f"sms.event.default.{ADDRESS.key.upper()}.{ADDRESS.time}",
        f"sms.event.default.{ADDRESS.key}.{ADDRESS.time[1:]}",
        f"sms.event.default.{ADDRESS.time}.{ADDRESS.key}",
        "sms.event.*.*.>",
    ],
)
def test_subject_without_an_address_is_refused(subject: str) -> None:
    with pytest.raises(CorruptRecord):
        parse_address(subject)


@given(st.text(alphabet="abc7.*>-_ \n9", max_size=80))
def test_junk_gives_an_address_or_corrupt_record_and_nothing_else(subject: str) -> None:
    try:
        address = parse_address(subject)
    except CorruptRecord:
        return
    assert subject.endswith(str(address))


@pytest.mark.parametrize(
    "text",
    ["", "x", str(uuid.UUID(int=7, version=4)), str(uuid.UUID(int=7, version=1)), "0" * 32, ADDRESS.message_id + "0"],
)
def test_foreign_id_has_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        address_of("default", text)


@pytest.mark.parametrize("number", ["+233201234567", "+15551234567", "0201234567", "+23320123", "12345678", "123", ""])
def test_mask_hides_the_middle_of_every_number(number: str) -> None:
    masked = mask(number)
    shown = sum(char.isdigit() for char in masked)
    assert number not in masked or not number
    assert shown <= 6
    assert len(number) - shown >= 3 or not shown


def test_lane_and_names_are_complete() -> None:
    assert set(model.LANE_OF_PRIORITY) == set(pb.Priority.values())
    assert {model.state_name(state) for state in pb.MessageState.values()} >= {"ACCEPTED", "UNKNOWN", "SENT"}
    assert [model.priority_name(one) for one in pb.Priority.values()] == ["NORMAL", "OTP", "NORMAL", "BULK"]
    assert [model.outcome_name(one) for one in pb.AttemptOutcome.values()] == [
        "started",
        "accepted",
        "throttled",
        "transient",
        "permanent",
        "provider_fault",
        "ambiguous",
    ]


def test_later_is_no_lane() -> None:
    assert model.LATER not in {str(lane) for lane in model.Lane}
