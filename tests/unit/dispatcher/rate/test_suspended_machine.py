"""While a machine is suspended its monotonic clock stands still; a lease and an attempt end all the same."""

import time
from unittest import mock

import pytest

from dispatcher.rate.pacer import Pacer, PermitGate
from dispatcher.transport.gate import GateClosed
from messaging.runtime.boot_clock import boot_time


class Machine:
    """Gives both clocks of a machine; `suspend` moves one of them only."""

    def __init__(self) -> None:
        self.monotonic, self.boot = 100.0, 100.0

    def pass_s(self, seconds: float) -> None:
        self.monotonic += seconds
        self.boot += seconds

    def suspend(self, seconds: float) -> None:
        self.boot += seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    one = Machine()
    monkeypatch.setattr(time, "monotonic", lambda: one.monotonic)
    monkeypatch.setattr(time, "clock_gettime", lambda _clock: one.boot)
    return one


def test_clock_of_leases_is_the_one_that_counts_suspension() -> None:
    with mock.patch.object(time, "clock_gettime", side_effect=float):
        assert boot_time() == time.CLOCK_BOOTTIME


async def test_lease_has_ended_when_the_machine_wakes_up(machine: Machine) -> None:
    pacer = Pacer(1.002)
    pacer.set_share(50)
    pacer.renewed(boot_time() + 2.5)
    permit = await pacer.acquire(1)
    machine.pass_s(0.03)
    assert pacer.is_usable(permit)
    machine.suspend(60.0)
    assert not pacer.is_usable(permit)


async def test_gate_of_an_attempt_that_others_have_given_up_stays_closed(machine: Machine) -> None:
    pacer = Pacer(1.002)
    pacer.set_share(50)
    pacer.renewed(float("inf"))
    gate = PermitGate(pacer, await pacer.acquire(1), give_up_at=boot_time() + 2.0, deadline=4e9)
    machine.suspend(60.0)
    with pytest.raises(GateClosed):
        await gate.enter()
