"""The fast check passes only numbers that phonenumbers leaves as they are."""

import re

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_grpc.numbers import passes_fast_check, region_of

BEGINNINGS = ("00", "01", "1", "15", "2", "20", "3", "45", "5", "6", "7", "8", "9", "99", "0", "02")


def judged(number: str, region: str | None = None) -> str:
    """phonenumbers' E.164 of a possible number; empty for any other."""
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return ""
    possible = phonenumbers.is_possible_number_with_reason(parsed) == phonenumbers.ValidationResult.IS_POSSIBLE
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164) if possible else ""


def begins_with_national_prefix(code: int, national: str) -> bool:
    region = phonenumbers.region_code_for_country_code(code)
    metadata = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(code, region)
    prefix = metadata.national_prefix_for_parsing if metadata is not None else None
    return prefix is not None and re.match(prefix, national) is not None


def test_every_country_and_length_is_judged_as_by_phonenumbers() -> None:
    for n, code in enumerate(sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)):
        for length in range(1, 19):
            for beginning in (BEGINNINGS[n % 16], BEGINNINGS[(n + length) % 16]):
                national = (beginning + "123456789012345678")[:length]
                number = f"+{code}{national}"
                possible = judged(number) == number and not begins_with_national_prefix(code, national)
                assert passes_fast_check(number) == possible, number


def test_usual_numbers_pass_the_fast_check() -> None:
    for number in (
        "+233201234567",
        "+14155550100",
        "+447700900123",
        "+4915112345678",
        "+390612345678",
        "+919812345678",
    ):
        assert passes_fast_check(number)
        assert judged(number) == number


@given(
    number=st.builds(
        lambda code, rest: f"+{code}{rest}",
        st.sampled_from([*sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE), "0", "01", "0233", "999", "2", "21"]),
        st.text(alphabet="0123456789", max_size=18),
    )
    | st.text(alphabet="+0123456789 ().-", max_size=20),
    region=st.sampled_from([None, "GH", "US", "CA", "AR", "IT", "BD"]),
)
def test_no_number_passes_that_phonenumbers_would_change_or_refuse(number: str, region: str | None) -> None:
    if passes_fast_check(number):
        assert judged(number, region) == number


@pytest.mark.parametrize(
    "number", ["+0233201234567", "+014155550100", "+４４7700900123", "447700900123", "+4407700900123", "+", "++1", ""]
)
def test_other_forms_are_left_to_phonenumbers(number: str) -> None:
    assert not passes_fast_check(number)


def test_region_of_a_number_is_found() -> None:
    numbers = ("+233201234567", "+14165550100", "+80012345678", "+19995550006")
    assert [region_of(number) for number in numbers] == ["GH", "CA", "001", ""]
