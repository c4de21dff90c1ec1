"""Finds which encoding a text needs and how many segments it takes. Pure.

GSM-7 (3GPP TS 23.038): a single segment holds 160 septets, each of several 153; an extension character takes two
septets in the same segment. UCS-2: a single segment holds 70 UTF-16 units, each of several 67; a surrogate pair is
never split.
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
MAX_NON_GSM7 = 20

_UNSEEN = ((0x2060, 0x206F), (0xFE00, 0xFE0F), (0xE0020, 0xE007F), (0xE0100, 0xE01EF))
"""Formats, variation selectors and tags, which show nothing by themselves."""

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
    "\u2000": " ",
    "\u2001": " ",
    "\u2002": " ",
    "\u2003": " ",
    "\u2007": " ",
    "\u2009": " ",
    "\u202f": " ",
    "\u200a": " ",
    "\u2004": " ",
    "\u2005": " ",
    "\u2006": " ",
    "\u2008": " ",
    "\u205f": " ",
    "\u3000": " ",
    "\t": " ",
    "\u2028": "\n",
    "\u2029": "\n",
    "\u00e7": "c",
    **dict.fromkeys(
        "\u00ad\u034f\u061c\u180b\u180c\u180d\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e"
        "\ufeff\ufff9\ufffa\ufffb",
        "",
    ),
    **{chr(code): "" for first, last in _UNSEEN for code in range(first, last + 1)},
}
"""Smart encoding's replacements: look-alikes, and nothing for what cannot be seen between characters of GSM-7.

GSM-7 has Ç and no ç: a c is nearer to it within a word than a capital.
"""


@attrs.frozen
class Segmentation:
    """A text as it will be sent, its encoding and its segments.

    `units` counts septets or UTF-16 units, and `units_left` is the room in the last segment. `non_gsm7` lists what
    forces UCS-2 as (position, character), at most MAX_NON_GSM7; `replaced` lists (old, new) of smart encoding.
    """

    text: str
    encoding: pb.Encoding.ValueType
    segments: int
    units: int
    units_left: int
    non_gsm7: tuple[tuple[int, str], ...] = ()
    replaced: tuple[tuple[str, str], ...] = ()


def segment(text: str, *, smart: bool = False) -> Segmentation:
    """Encode and segment a text (normalized to NFC); with `smart`, look-alikes are replaced if all then fits GSM-7."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if _BASIC_SET.issuperset(text):
        return Segmentation(text, pb.ENCODING_GSM7, *_pack_evenly(len(text), GSM7_SINGLE, GSM7_PART))
    non_gsm7 = tuple((i, char) for i, char in enumerate(text) if char not in _SEPTETS)
    replaced: tuple[tuple[str, str], ...] = ()
    if smart and non_gsm7 and all(char in LOOKALIKES for _, char in non_gsm7):
        replaced = tuple((char, LOOKALIKES[char]) for char in dict.fromkeys(char for _, char in non_gsm7))
        text = "".join(char if char in _SEPTETS else LOOKALIKES[char] for char in text)
        non_gsm7 = ()
    if not non_gsm7:
        segments, units, left = _pack((_SEPTETS[char] for char in text), GSM7_SINGLE, GSM7_PART)
        return Segmentation(text, pb.ENCODING_GSM7, segments, units, left, (), replaced)
    segments, units, left = _pack((2 if ord(char) > _LAST_BMP else 1 for char in text), UCS2_SINGLE, UCS2_PART)
    return Segmentation(text, pb.ENCODING_UCS2, segments, units, left, non_gsm7[:MAX_NON_GSM7])


def _pack_evenly(units: int, single: int, part: int) -> tuple[int, int, int]:
    if units <= single:
        return 1, units, single - units
    segments = -(-units // part)
    return segments, units, segments * part - units


def _pack(costs: Iterable[int], single: int, part: int) -> tuple[int, int, int]:
    """Fill the segments in order; a character that does not fit as a whole begins the next segment."""
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
