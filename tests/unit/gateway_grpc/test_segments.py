import math

import gsm0338
import pytest
import smsutil
from hypothesis import example, given
from hypothesis import strategies as st
from sms.gateway.v1 import message_pb2 as pb

from gateway_grpc import segments
from gateway_grpc.segments import GSM7_PART, GSM7_SINGLE, LOOKALIKES, MAX_NON_GSM7, UCS2_PART, UCS2_SINGLE, segment

GSM7, UCS2 = pb.ENCODING_GSM7, pb.ENCODING_UCS2
WAVE = "👋"

# text, encoding, segments, units, units left in the last segment
VECTORS = [
    ("", GSM7, 1, 0, 160),
    ("a", GSM7, 1, 1, 159),
    ("a" * 160, GSM7, 1, 160, 0),
    ("a" * 161, GSM7, 2, 161, 145),
    ("a" * 306, GSM7, 2, 306, 0),
    ("a" * 307, GSM7, 3, 307, 152),
    ("a" * 1530, GSM7, 10, 1530, 0),
    ("a" * 1531, GSM7, 11, 1531, 152),
    ("€" * 80, GSM7, 1, 160, 0),
    ("€" * 81, GSM7, 2, 162, 153 - 10),  # 76 fill 152 septets of the first, five remain
    ("a" * 158 + "€", GSM7, 1, 160, 0),
    ("a" * 159 + "€", GSM7, 2, 161, 153 - 8),
    ("a" * 152 + "€" + "a" * 152, GSM7, 3, 306, 152),  # € never straddles: 152, € and 151, 1
    ("a" * 151 + "€" + "a" * 153, GSM7, 2, 306, 0),
    ("ä" * 70, GSM7, 1, 70, 90),
    ("\r\n" * 80, GSM7, 1, 160, 0),  # CRLF costs two
    ("\n" * 160, GSM7, 1, 160, 0),
    ("\f^{}\\[~]|€", GSM7, 1, 20, 140),
    ("ç", UCS2, 1, 1, 69),  # Ç is GSM-7, ç is not
    ("Ç", GSM7, 1, 1, 159),
    ("`", UCS2, 1, 1, 69),
    ("\t", UCS2, 1, 1, 69),
    ("e\u0301", GSM7, 1, 1, 159),  # composed to é first
    ("E\u0301x", GSM7, 1, 2, 158),
    ("a\u0301", UCS2, 1, 1, 69),  # á composes and is not GSM-7
    ("x\u0301", UCS2, 1, 2, 68),
    ("ж" * 70, UCS2, 1, 70, 0),
    ("ж" * 71, UCS2, 2, 71, 63),
    ("ж" * 134, UCS2, 2, 134, 0),
    ("ж" * 135, UCS2, 3, 135, 66),
    (WAVE, UCS2, 1, 2, 68),
    (WAVE * 35, UCS2, 1, 70, 0),
    ("ж" * 66 + WAVE + "ж" * 66, UCS2, 3, 134, 66),  # the pair is not split: 66, pair and 65, 1
    ("ж" * 65 + WAVE + "ж" * 67, UCS2, 2, 134, 0),
    ("€" * 69 + "ж", UCS2, 1, 70, 0),  # in UCS-2 an extension character costs one
]


@pytest.mark.parametrize(("text", "encoding", "count", "units", "left"), VECTORS)
def test_golden_vectors(text: str, encoding: int, count: int, units: int, left: int) -> None:
    found = segment(text)
    assert (found.encoding, found.segments, found.units, found.units_left) == (encoding, count, units, left)


def test_alphabet_is_that_of_3gpp_23038() -> None:
    """gsm0338 carries the standard's own tables; `ESC` is not a character of a text."""
    codec = gsm0338.Codec()
    everything = [chr(number) for number in range(0x10000) if not 0xD800 <= number <= 0xDFFF]
    theirs = {}
    for char in everything:
        try:
            theirs[char] = len(codec.encode(char)[0])
        except UnicodeEncodeError:
            continue
    theirs.pop("\x1b")
    assert theirs == {char: segment(char).units for char in segments._SEPTETS}


_GSM = st.text(alphabet=sorted(set(segments._SEPTETS)), min_size=1, max_size=480)
_ANY = st.text(alphabet=st.sampled_from("aä€^é\nжñ👋🏽\u200d—x "), min_size=1, max_size=400)


@given(_GSM | _ANY)
@example("a" * 152 + "€" + "a" * 152)
@example("€" * 153)
@example("ж" * 66 + WAVE + "ж" * 66)
def test_agrees_with_smsutil(text: str) -> None:
    found = segment(text)
    assert found.text == text, "this alphabet is composed already"
    oracle = smsutil.split(text)
    gsm = oracle.encoding == "gsm0338"
    assert (found.encoding == GSM7) == gsm
    assert found.units == oracle.total_bytes // (1 if gsm else 2)
    assert found.segments == max(1, len(oracle.parts))


@given(_GSM | _ANY)
def test_segments_units_and_units_left_add_up(text: str) -> None:
    found = segment(text)
    single, part = (GSM7_SINGLE, GSM7_PART) if found.encoding == GSM7 else (UCS2_SINGLE, UCS2_PART)
    if found.segments == 1:
        assert found.units + found.units_left == single
        return
    assert found.segments >= math.ceil(found.units / part)
    wasted = found.segments * part - found.units - found.units_left
    assert 0 <= wasted < found.segments, "at most one unit is lost at each seam"


@given(_GSM)
def test_units_left_is_what_still_fits(text: str) -> None:
    found = segment(text)
    assert segment(text + "a" * found.units_left).segments == found.segments
    assert segment(text + "a" * (found.units_left + 1)).segments == found.segments + 1


def test_characters_outside_gsm7_are_listed_with_their_positions_up_to_a_limit() -> None:
    assert segment("aжb`").non_gsm7 == ((1, "ж"), (3, "`"))
    assert len(segment("ж" * 100).non_gsm7) == MAX_NON_GSM7
    assert segment("plain").non_gsm7 == ()


# Smart encoding


def test_every_replacement_is_gsm7_and_no_lookalike_is() -> None:
    for char, replacement in LOOKALIKES.items():
        assert segment(char).encoding == UCS2, hex(ord(char))
        assert segment(replacement).encoding == GSM7, hex(ord(char))


def test_lookalikes_are_replaced_when_the_text_then_fits_gsm7() -> None:
    found = segment("“Don’t – wait…”\u00a0ok", smart=True)
    assert (found.text, found.encoding, found.non_gsm7) == ('"Don\'t - wait..." ok', GSM7, ())
    assert dict(found.replaced) == {"“": '"', "’": "'", "–": "-", "…": "...", "”": '"', "\u00a0": " "}


def test_nothing_is_replaced_when_one_character_stays_outside_gsm7() -> None:
    found = segment("“ж”", smart=True)
    assert (found.text, found.encoding, found.replaced) == ("“ж”", UCS2, ())


def test_nothing_is_replaced_without_smart_encoding_or_when_the_text_fits_gsm7() -> None:
    assert segment("“x”").encoding == UCS2
    assert segment("x", smart=True) == segment("x")


@given(st.text(alphabet=st.sampled_from([*LOOKALIKES, "a", "€", "ж"]), max_size=200))
def test_smart_encoding_never_costs_more(text: str) -> None:
    assert segment(text, smart=True).segments <= segment(text).segments
