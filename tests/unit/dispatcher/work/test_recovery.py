"""What a pod records about an attempt of which only a look-up tells the outcome."""

import attrs
import pytest

from providers.base import ACCEPTED, Outcome
from tests.unit.fake_provider import FakeProviderClient, Reply
from tests.unit.small_fleet import FLEET, SmallFleet
from tests.unit.virtual_time import in_virtual_time

HOLD = attrs.evolve(FLEET, ambiguous_otp="hold")


@in_virtual_time
async def test_attempt_that_a_look_up_did_not_find_is_no_longer_unclear() -> None:
    fleet = SmallFleet({"p1": {"a": [Reply.LOSES]}}, HOLD, can_look_up=True)
    await fleet.pod()
    address = await fleet.accept("a", providers=["p1"], ttl_s=FLEET.lookup_after_s + 1)
    await fleet.until_idle()
    assert fleet.story(address) == ["SENDING", "SENDING UNCLEAR", "EXPIRED EXPIRED"]
    await fleet.close()


@in_virtual_time
async def test_id_that_a_look_up_finds_is_masked_when_it_repeats_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(*_: object) -> Outcome:
        return Outcome(ACCEPTED, "id-00233-20-123-4567", "0201234567")

    monkeypatch.setattr(FakeProviderClient, "look_up", look_up)
    fleet = SmallFleet({"p1": {"a": [Reply.TAKES_UNHEARD]}}, HOLD, can_look_up=True)
    await fleet.pod()
    address = await fleet.accept("a", providers=["p1"])
    await fleet.until_idle()
    assert fleet.story(address)[-1] == "SENT"
    (attempt,) = fleet.events(address)[-1].attempts
    assert (attempt.provider_message_id, attempt.code) == ("****", "")
    await fleet.close()
