"""Lanes, states, addresses and message ids, as all processes use them. Pure.

A message's *address* is `<client>.<key>.<time>`. Every subject of the message ends with it, so that every read is
limited to one client. `time` and `key` are the two parts of the message id, a UUIDv7: 12 hexadecimal digits of Unix
milliseconds, and 20 digits that begin with the version. The key is derived from client and request_id, or random.
"""

import enum
import functools
import hashlib
import re
import uuid
from typing import Any

import attrs
from sms.gateway.v1 import message_pb2 as pb

from messaging.errors import CorruptRecord

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_MASK = ((0xFFF) << 64) | ((1 << 62) - 1)
_KEY = re.compile(r"7[0-9a-f]{3}[89ab][0-9a-f]{15}")
_TIME = re.compile(r"[0-9a-f]{12}")
_CLIENT = re.compile(r"[a-z0-9_-]{1,64}")
KEY_BYTES = 10
"""How many bytes a key is made from; six of their bits are replaced by the UUID's version and variant."""


class Lane(enum.StrEnum):
    """A provider's queue for one priority."""

    OTP = "otp"
    NORMAL = "normal"
    BULK = "bulk"


LATER = "later"
"""Takes the lane's place in the accept subject of a scheduled message."""

LANE_OF_PRIORITY: dict[int, Lane] = {
    pb.PRIORITY_UNSPECIFIED: Lane.NORMAL,
    pb.PRIORITY_OTP: Lane.OTP,
    pb.PRIORITY_NORMAL: Lane.NORMAL,
    pb.PRIORITY_BULK: Lane.BULK,
}


def priority_of(priority: int) -> int:
    """Return a priority that this version knows: one that only a newer version knows counts as NORMAL."""
    return priority if priority in LANE_OF_PRIORITY else pb.PRIORITY_NORMAL


def lane_of(priority: int) -> Lane:
    """Return the lane of a priority."""
    return LANE_OF_PRIORITY[priority_of(priority)]


FINAL_STATES = frozenset(
    {
        pb.MESSAGE_STATE_DELIVERED,
        pb.MESSAGE_STATE_UNDELIVERED,
        pb.MESSAGE_STATE_FAILED,
        pb.MESSAGE_STATE_EXPIRED,
        pb.MESSAGE_STATE_CANCELED,
        pb.MESSAGE_STATE_REJECTED,
        pb.MESSAGE_STATE_UNKNOWN,
    }
)

SETTLED_STATES = FINAL_STATES | {pb.MESSAGE_STATE_SENT}
"""States in which the dispatcher has nothing left to do; only a delivery receipt can still change SENT."""


@attrs.frozen
class Address:
    """A message's address: client, key (20 digits) and time (12 digits)."""

    client: str
    key: str
    time: str

    @property
    def message_id(self) -> str:
        """The message id, as callers see it."""
        return f"{self.time[:8]}-{self.time[8:]}-{self.key[:4]}-{self.key[4:8]}-{self.key[8:]}"

    def __str__(self) -> str:
        """Return the three tokens that end a subject."""
        return f"{self.client}.{self.key}.{self.time}"


def is_client(name: str) -> bool:
    """Whether a name can be a client's; no other may become part of a subject, where * and > are wildcards."""
    return _CLIENT.fullmatch(name) is not None


def address_of(client: str, message_id: str) -> Address:
    """Return a message's address; raises ValueError when `message_id` is not a UUIDv7, or `client` no client's name."""
    if not is_client(client):
        raise ValueError("not the name of a client")
    digits = uuid.UUID(message_id).hex
    if not _KEY.fullmatch(digits[12:]):
        raise ValueError("not a UUIDv7")
    return Address(client, digits[12:], digits[:12])


def parse_address(subject: str) -> Address:
    """Read the address from the last three tokens of a subject; raises CorruptRecord."""
    tokens = subject.split(".")[-3:]
    if len(tokens) != 3 or not (
        _CLIENT.fullmatch(tokens[0]) and _KEY.fullmatch(tokens[1]) and _TIME.fullmatch(tokens[2])
    ):
        raise CorruptRecord(subject, "its subject holds no address")
    return Address(*tokens)


def new_address(client: str, now_ms: int, key: str) -> Address:
    """Make the address of a message accepted at `now_ms` (Unix milliseconds)."""
    return Address(client, key, f"{now_ms:012x}")


def key_from_bytes(raw: bytes) -> str:
    """Make a key, the second part of a UUIDv7, from KEY_BYTES bytes."""
    bits = int.from_bytes(raw, "big") & _RANDOM_MASK
    return f"{bits | _VERSION_7 | _VARIANT:020x}"


def key_of_request(secret: bytes, client: str, request_id: str) -> str:
    """Derive the key of a request_id, which is the same for every repeat (keyed BLAKE2b)."""
    digest = hashlib.blake2b(f"{client}\0{request_id}".encode(), key=secret[:64], digest_size=KEY_BYTES).digest()
    return key_from_bytes(digest)


def mask(recipient: str) -> str:
    """Shorten a phone number for logs to its first four and last two characters; a short one is hidden whole."""
    return f"{recipient[:4]}…{recipient[-2:]}" if len(recipient) > 8 else "…"


def state_name(state: int) -> str:
    """Name a state for people: ACCEPTED, SENT and so on; the number of a state that only a newer version knows."""
    return _name(pb.MessageState, state, "MESSAGE_STATE_")


def outcome_name(outcome: int) -> str:
    """Name an attempt's outcome for people: accepted, throttled, …; `started` while it has none."""
    name = _name(pb.AttemptOutcome, outcome, "ATTEMPT_OUTCOME_").lower()
    return "started" if name == "unspecified" else name


def priority_name(priority: int) -> str:
    """Name a priority for people: OTP, NORMAL, BULK."""
    return _name(pb.Priority, priority, "PRIORITY_").replace("UNSPECIFIED", "NORMAL")


@functools.lru_cache(maxsize=256)
def _name(kind: Any, number: int, prefix: str) -> str:
    if number not in kind.values():
        return str(number)
    name: str = kind.Name(number)
    return name.removeprefix(prefix)
