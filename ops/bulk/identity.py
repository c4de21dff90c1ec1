"""Gives each row the same identity however the file is named, sorted or shortened. Pure.

The identity of a row is a hash of its contents and of how many rows before it had the same contents. So the second of
two equal rows is a message of its own, and no other row changes which one a row is.
"""

import hashlib
import re
import unicodedata
from array import array
from collections.abc import Iterable, Iterator

import attrs
from sms.gateway.v1 import gateway_pb2 as api

from ops.bulk.row import BadRow, Row

_AFTER_CODE = re.compile(r"((?:\+|00)[1-9][0-9]{0,2}) ?\(0\)")
_GROUP_DOT = re.compile(r"(?<![0-9]{6})\.(?=[0-9]{3})")
"""A dot between groups of digits. Another one may be a decimal point, with which it is another number."""
_SEPARATORS = re.compile(r"[\s()/\-]+")


class KeySet:
    """A set of 64-bit keys that takes 12 to 24 bytes for each: files may have millions of rows."""

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * 1024))
        self._count = 0

    def add(self, key: int) -> bool:
        """Add a key; returns whether it is new."""
        key = key or 1  # 0 marks an empty slot
        if not self._put(key):
            return False
        self._count += 1
        if self._count * 3 > len(self._slots) * 2:
            old = self._slots
            self._slots = array("Q", bytes(8 * len(old) * 2))
            for one in old:
                if one:
                    self._put(one)
        return True

    def _put(self, key: int) -> bool:
        slots = self._slots
        last = len(slots) - 1
        at = key & last
        while found := slots[at]:
            if found == key:
                return False
            at = (at + 1) & last
        slots[at] = key
        return True


@attrs.define
class Identities:
    """Identifies the rows of one file, and counts those whose recipient came before.

    `campaign` makes the same contents other messages than in other campaigns. Without `with_ids`, no row gets a
    request_id. With `distinct`, only the first row of each recipient is kept, even if that row is refused.
    """

    campaign: str = ""
    with_ids: bool = True
    distinct: bool = False
    same_recipient: int = attrs.field(default=0, init=False)
    _contents: KeySet = attrs.field(factory=KeySet, init=False)
    _repeats: dict[int, int] = attrs.field(factory=dict, init=False)
    _recipients: KeySet = attrs.field(factory=KeySet, init=False)

    def of(self, rows: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
        """Yield the rows, each with its identity."""
        for row in rows:
            recipient = bare(row.request.recipient if isinstance(row, Row) else row.recipient)
            if recipient and not self._recipients.add(_key(_digest(recipient.encode(errors="surrogatepass")))):
                self.same_recipient += 1
                if self.distinct:
                    continue
            yield self._identified(row) if isinstance(row, Row) and self.with_ids else row

    def _identified(self, row: Row) -> Row:
        if row.request.request_id:
            return row
        contents = api.SendSmsRequest()
        contents.CopyFrom(row.request)
        contents.recipient = bare(contents.recipient)
        contents.body = _one_spelling(contents.body)
        digest = _digest(self.campaign.encode(errors="surrogateescape"), contents.SerializeToString(deterministic=True))
        earlier = self._earlier(_key(digest))
        copy = row.copy or earlier + 1
        row.request.request_id = "batch-" + _digest(digest, str(copy).encode()).hex()
        return attrs.evolve(row, copy=copy)

    def _earlier(self, key: int) -> int:
        """Return how many rows with this key came before, and count this one."""
        if self._contents.add(key):
            return 0
        self._repeats[key] = self._repeats.get(key, 0) + 1
        return self._repeats[key]


def bare(recipient: str) -> str:
    """Drop the separators of a number, and write + for 00, so that its other spellings are the same one."""
    digits = _SEPARATORS.sub("", _GROUP_DOT.sub("", _AFTER_CODE.sub(r"\1", recipient.strip())))
    return "+" + digits[2:] if digits.startswith("00") else digits


def _one_spelling(text: str) -> str:
    """Undo what editors change in a text when they save it: its line ends, and how accents are composed."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _digest(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"".join(len(part).to_bytes(8) + part for part in parts), digest_size=16).digest()


def _key(digest: bytes) -> int:
    return int.from_bytes(digest[:8])
