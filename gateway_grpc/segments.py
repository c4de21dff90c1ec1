"""Which alphabet a text needs, and how many segments it becomes. Pure.

GSM-7 (3GPP TS 23.038): 160 septets in one segment, 153 in each of several; extension characters cost two and never
straddle a segment. UCS-2: 70 UTF-16 units in one, 67 in each of several; a surrogate pair is never split.
"""

import unicodedata
from collections.abc import Iterable

import attrs
from sms.gateway.v1 import message_pb2 as pb

_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = "^{}\\[~]|€\f"
_SEPTETS: dict[str, int] = {**dict.fromkeys(_BASIC, 1), **dict.fromkeys(_EXTENSION, 2)}
_BASIC_SET = frozenset(_BASIC)
_LAST_BMP = 0xFFFF

GSM7_SINGLE, GSM7_PART = 160, 153
UCS2_SINGLE, UCS2_PART = 70, 67
MAX_SEGMENTS = 10
MAX_CULPRITS = 20

LOOKALIKES: dict[str, str] = {
    "\u2018": "'",
    "\u2019": "'",
    "\u201a": "'",
    "\u201b": "'",
    "\u2032": "'",
    "\u02bc": "'",
    "\u0060": "'",
    "\u00b4": "'",
    "\u201c": '"',
    "\u201d": '"',
    "\u201e": '"',
    "\u201f": '"',
    "\u2033": '"',
    "\u00ab": '"',
    "\u00bb": '"',
    "\u2010": "-",
    "\u2011": "-",
    "\u2012": "-",
    "\u2013": "-",
    "\u2014": "-",
    "\u2015": "-",
    "\u2212": "-",
    "\u2026": "...",
    "\u2022": "*",
    "\u00b7": ".",
    "\u00a0": " ",
    "\u2002": " ",
    "\u2003": " ",
    "\u2007": " ",
    "\u2009": " ",
    "\u202f": " ",
    "\u200a": " ",
    "\t": " ",
    "\u200b": "",
    "\ufeff": "",
    "\u00e7": "Ç",
}
"""What smart encoding may put in the place of a character."""


@attrs.frozen
class Measure:
    """A text as it will travel: `units` are septets or UTF-16 units, `units_left` what the last segment still takes."""

    text: str
    encoding: pb.Encoding.ValueType
    segments: int
    units: int
    units_left: int
    culprits: tuple[tuple[int, str], ...] = ()
    replaced: tuple[tuple[str, str], ...] = ()


def measure(text: str, *, smart: bool = False) -> Measure:
    """Judge a text (composed to NFC first); with `smart`, look-alikes are replaced when all then fits GSM-7."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if _BASIC_SET.issuperset(text):
        return Measure(text, pb.ENCODING_GSM7, *_pack_evenly(len(text), GSM7_SINGLE, GSM7_PART))
    culprits = tuple((i, char) for i, char in enumerate(text) if char not in _SEPTETS)
    replaced: tuple[tuple[str, str], ...] = ()
    if smart and culprits and all(char in LOOKALIKES for _, char in culprits):
        replaced = tuple((char, LOOKALIKES[char]) for char in dict.fromkeys(char for _, char in culprits))
        text = "".join(char if char in _SEPTETS else LOOKALIKES[char] for char in text)
        culprits = ()
    if not culprits:
        segments, units, left = _pack((_SEPTETS[char] for char in text), GSM7_SINGLE, GSM7_PART)
        return Measure(text, pb.ENCODING_GSM7, segments, units, left, (), replaced)
    segments, units, left = _pack((2 if ord(char) > _LAST_BMP else 1 for char in text), UCS2_SINGLE, UCS2_PART)
    return Measure(text, pb.ENCODING_UCS2, segments, units, left, culprits[:MAX_CULPRITS])


def _pack_evenly(units: int, single: int, part: int) -> tuple[int, int, int]:
    if units <= single:
        return 1, units, single - units
    segments = -(-units // part)
    return segments, units, segments * part - units


def _pack(costs: Iterable[int], single: int, part: int) -> tuple[int, int, int]:
    """Fill segments greedily; a character that does not fit whole begins the next segment."""
    total, segments, used = 0, 1, 0
    for cost in costs:
        total += cost
        if used + cost > part:
            segments += 1
            used = 0
        used += cost
    if total <= single:
        return 1, total, single - total
    return segments, total, part - used
