"""Each upper bound of a library says why it is there and which test tells when it may be raised; the lock obeys it."""

import pathlib
import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[2]
_REQUIREMENT = re.compile(r'^\s*"([a-zA-Z0-9][^"]*)",?\s*(?:#\s*(.*))?$')


def _bounded() -> dict[str, tuple[Requirement, str]]:
    """Give each requirement with an upper bound, and the comment beside it."""
    found: dict[str, tuple[Requirement, str]] = {}
    for line in (ROOT / "pyproject.toml").read_text().splitlines():
        if (match := _REQUIREMENT.match(line)) and "<" in match[1]:
            one = Requirement(match[1])
            found[canonicalize_name(one.name)] = (one, match[2] or "")
    return found


BOUNDED = _bounded()
PINS = dict(
    re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
)


def test_the_libraries_with_overridden_parts_are_bounded() -> None:
    assert {"aiohttp", "nats-py"} <= set(BOUNDED)


@pytest.mark.parametrize("name", BOUNDED)
def test_bound_has_a_reason_and_a_test_that_exists(name: str) -> None:
    reason, _, test = BOUNDED[name][1].rpartition(": ")
    assert reason
    assert (ROOT / test).is_file(), f"{name}: which test tells when the bound may be raised?"


@pytest.mark.parametrize("name", BOUNDED)
def test_lock_is_within_the_bound(name: str) -> None:
    assert BOUNDED[name][0].specifier.contains(PINS[name])
