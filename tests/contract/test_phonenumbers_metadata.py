"""What `gateway_grpc.numbers` takes for granted of phonenumbers: the shape of each country's metadata."""

import re

import phonenumbers
import pytest

CODES = sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)


def metadata(code: int) -> phonenumbers.PhoneMetadata:
    region = phonenumbers.region_code_for_country_code(code)
    found = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(code, region)
    assert found is not None
    return found


def test_the_world_has_its_calling_codes() -> None:
    assert {1, 7, 44, 233, 800} <= set(CODES)
    assert all(1 <= code <= 999 for code in CODES)
    assert len(CODES) > 200


@pytest.mark.parametrize("code", CODES)
def test_every_calling_code_has_lengths_and_maybe_a_national_prefix(code: int) -> None:
    found = metadata(code)
    assert found.general_desc is not None
    lengths = (*found.general_desc.possible_length, *found.general_desc.possible_length_local_only)
    assert lengths
    assert all(type(length) is int for length in lengths)
    prefix = found.national_prefix_for_parsing
    assert prefix is None or re.compile(prefix)


def test_lengths_and_prefix_are_those_of_the_numbering_plan() -> None:
    ghana = metadata(233)
    assert ghana.general_desc is not None
    assert ghana.general_desc.possible_length == (8, 9)
    assert ghana.general_desc.possible_length_local_only == (7,)
    assert ghana.national_prefix_for_parsing == "0"
