"""Checks phone numbers with the metadata of phonenumbers, and finds their regions. Pure.

Parsing a number with phonenumbers takes 20 µs, mostly for rare formats. A number of + and digits, with a length that
its country uses and without a national prefix to strip, is checked against the same metadata in 1 µs.
"""

import functools
import re

import phonenumbers
from phonenumbers import PhoneMetadata, PhoneNumberType, ValidationResult

from gateway_grpc.spelling import spelling_fault

_SHORTEST, _LONGEST = 2, 17
"""The fewest and the most digits after the country code that phonenumbers parses."""

_PLAIN = re.compile(r"[+][1-9][0-9]+", re.ASCII)


def passes_fast_check(number: str) -> bool:
    """Whether a number is E.164 and has a possible length; False means that phonenumbers must parse it."""
    if _PLAIN.fullmatch(number) is None:
        return False
    for end in (2, 3, 4):
        plan = _plan(number[1:end])
        if plan is not None:
            lengths, national_prefix = plan
            return len(number) - end in lengths and national_prefix.match(number, end) is None
    return False


_EXAMPLE = "write it with + and its country code, such as +233201234567"
_TO_MOBILES = frozenset({PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE})
_SUFFIXED = re.compile(r"(.*[0-9])[ -]+[0-9]{1,2}")
_LONG_GROUP = re.compile(r".*[0-9]{7,}")
_NANP = 1
"""Country code 1, in which national numbers are usually written without the national prefix."""


def to_e164(number: str, default_region: str, *, strict: bool = False) -> tuple[str, str]:
    """Convert a number to E.164: (number, ""), or ("", fault). The digits of the number stay as they are, in order.

    Only separators are dropped, and what a caller dials before the number: an international or national prefix.
    """
    if not strict and passes_fast_check(number):
        return number, ""
    if fault := spelling_fault(number):
        return "", fault
    try:
        parsed = phonenumbers.parse(number, default_region or None)
    except phonenumbers.NumberParseException:
        what = "begins with 00" if number.startswith("00") else "is not a phone number"
        return "", f"{what}: {_EXAMPLE}"
    if phonenumbers.is_possible_number_with_reason(parsed) != ValidationResult.IS_POSSIBLE:
        return "", f"has too few or too many digits for its country: {_EXAMPLE}"
    if strict and not phonenumbers.is_valid_number(parsed):
        return "", "is not in a range that its country has assigned"
    if fault := _prefix_fault(number, parsed, default_region) or _suffix_fault(number, parsed, default_region):
        return "", fault
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164), ""


def _prefix_fault(number: str, parsed: phonenumbers.PhoneNumber, default_region: str) -> str:
    """Say which digits before the number make it doubtful which number is meant; empty when none do."""
    digits = re.sub("[^0-9]", "", number)
    code, national = str(parsed.country_code), phonenumbers.national_significant_number(parsed)
    if digits.startswith("00") and digits.removeprefix("00") != code + national and not number.startswith("+"):
        # Only where 00 is dialled for calls abroad is it the beginning of an international number.
        rest = digits.removeprefix("00")
        if not (rest.startswith(code) and _may_drop(parsed, rest.removeprefix(code), national)):
            return f"begins with 00, which stands for + in some countries only: {_EXAMPLE}"
    after_code = digits.removeprefix("00").removeprefix(code)
    if "(0)" in number and after_code == national:
        return "has a (0) that its country does not use: leave it out if it is not dialled from abroad"
    if number.startswith("+"):
        keeps = after_code == national or _may_drop(parsed, after_code, national)
        return "" if keeps else f"has a national prefix after its country code: {_EXAMPLE}"
    if digits == national and default_region:
        return _lost_plus_fault(digits, parsed, default_region)
    return ""


def _suffix_fault(number: str, parsed: phonenumbers.PhoneNumber, default_region: str) -> str:
    """Refuse one or two digits behind a number that is whole without them: they may be another cell or an extension.

    A number in short groups may end with one of two digits, so it is doubtful only if it is no number with them.
    """
    found = _SUFFIXED.fullmatch(number.rstrip())
    if found is None or (not _LONG_GROUP.fullmatch(found[1]) and phonenumbers.is_valid_number(parsed)):
        return ""
    try:
        whole = phonenumbers.parse(found[1], default_region or None)
    except phonenumbers.NumberParseException:
        return ""
    if phonenumbers.number_type(whole) not in _TO_MOBILES:
        return ""  # the extensions of a switchboard are dialled
    return "is whole without the last digits, which stand apart: leave them out, or write them without a separator"


def _may_drop(parsed: phonenumbers.PhoneNumber, written: str, national: str) -> bool:
    """Whether the national number can be read from what is written, which cannot be a national number itself."""
    code = parsed.country_code or 0
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(code, phonenumbers.region_code_for_country_code(code))
    if metadata is None or metadata.general_desc is None:
        return written == national
    return re.fullmatch(metadata.general_desc.national_number_pattern or "", written) is None


def _lost_plus_fault(digits: str, parsed: phonenumbers.PhoneNumber, region: str) -> str:
    """Refuse a national number without its prefix that can as well be an international one which lost its plus."""
    prefix = phonenumbers.ndd_prefix_for_region(region, True)
    if parsed.country_code == _NANP:
        return ""
    kind = phonenumbers.number_type(parsed)
    if kind in _TO_MOBILES or (prefix != "0" and kind != PhoneNumberType.UNKNOWN):
        return ""
    try:
        other = phonenumbers.parse("+" + digits)
    except phonenumbers.NumberParseException:
        return ""
    if phonenumbers.is_possible_number_with_reason(other) != ValidationResult.IS_POSSIBLE:
        return ""
    return f"can be a national number or one that lost its plus (+): {_EXAMPLE}"


def region_of(number: str) -> str:
    """Return the region (such as GH) of an E.164 number; empty when it has none."""
    return phonenumbers.region_code_for_number(phonenumbers.parse(number)) or ""


@functools.cache
def _plan(code: str) -> tuple[frozenset[int], re.Pattern[str]] | None:
    """Return the possible lengths after a country code, and the national prefix that must not follow it."""
    country = int(code)
    if country not in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
        return None
    region = phonenumbers.region_code_for_country_code(country)
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(country, region)
    if metadata is None or metadata.general_desc is None:
        return None
    general = metadata.general_desc
    # Lengths that are possible within an area only are none: 555-2671 would be another number in each of them.
    fitting = frozenset(length for length in general.possible_length if _SHORTEST <= length <= _LONGEST)
    return fitting, re.compile(metadata.national_prefix_for_parsing or "(?!)")
