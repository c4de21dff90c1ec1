"""The regions that a default region may be."""

import phonenumbers
import pytest

from messaging.errors import ConfigError
from messaging.runtime.config import read_settings
from messaging.runtime.config.regions import OFTEN_MEANT, REGIONS


def test_regions_are_those_whose_numbers_are_known() -> None:
    assert set(phonenumbers.SUPPORTED_REGIONS) == REGIONS
    assert set(OFTEN_MEANT.values()) <= REGIONS
    assert not set(OFTEN_MEANT) & REGIONS


@pytest.mark.parametrize(("text", "meant"), [("UK", "GB"), ("uk", "GB"), ("EN", "GB"), ("el", "GR")])
def test_region_that_is_none_is_refused_with_the_one_that_was_meant(text: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"did you mean {meant}\?"):
        read_settings({"SMSGW_DEFAULT_REGION": text})


@pytest.mark.parametrize("text", ["XX", "ZZ", "EU", "é!", "G1", "ÄÖ"])
def test_region_that_nobody_knows_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="SMSGW_DEFAULT_REGION"):
        read_settings({"SMSGW_DEFAULT_REGION": text})
