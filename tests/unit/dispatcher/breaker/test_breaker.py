import pytest

from dispatcher.breaker.breaker import Breaker, BreakerLimits
from messaging.documents import BreakerState, Mode

LIMITS = BreakerLimits(failures=5, calls=20, window_s=60.0, cooldown_s=30.0, probe_timeout_s=45.0)


class Provider:
    """One pod's breaker whose changes are written at once, as when no other pod writes."""

    def __init__(self, pod: str = "pod-1", state: BreakerState | None = None) -> None:
        self.now = 1000.0
        self.breaker = Breaker(pod, LIMITS)
        if state is not None:
            self.breaker.adopt(state, self.now)

    @property
    def state(self) -> BreakerState:
        return self.breaker.state

    def call(self, *, failed: bool | None, after_s: float = 0.0) -> None:
        generation = self.breaker.begin()
        self.now += after_s
        self.answer(generation, failed=failed)

    def answer(self, generation: int, *, failed: bool | None) -> None:
        change = self.breaker.record(generation, self.now, failed=failed)
        if change is not None:
            self.breaker.adopt(change, self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        change = self.breaker.due_change(self.now)
        if change is not None:
            self.breaker.adopt(change, self.now)


def opened() -> Provider:
    provider = Provider()
    for _ in range(LIMITS.failures):
        provider.call(failed=True)
    return provider


def half_open() -> Provider:
    provider = opened()
    provider.wait(LIMITS.cooldown_s)
    return provider


# Opening


def test_failures_older_than_the_window_do_not_count() -> None:
    provider = Provider()
    for number in range(20):
        provider.call(failed=number % 2 == 0)
    provider.now += LIMITS.window_s
    for number in range(20):
        provider.call(failed=number % 3 == 0)
    assert provider.state.mode is Mode.CLOSED


def test_opens_after_failures_in_a_row_and_says_why() -> None:
    provider = Provider()
    for _ in range(LIMITS.failures - 1):
        provider.call(failed=True)
    assert provider.breaker.admits()
    provider.call(failed=True)
    assert provider.state == BreakerState(Mode.OPEN, 1, "5 failures in a row")
    assert not provider.breaker.admits()


def test_one_success_ends_the_row_of_failures() -> None:
    provider = Provider()
    for _ in range(3):
        for _ in range(LIMITS.failures - 1):
            provider.call(failed=True)
        provider.call(failed=False)
    assert provider.state.mode is Mode.CLOSED


@pytest.mark.parametrize(("bad", "state"), [(10, Mode.CLOSED), (11, Mode.OPEN)])
def test_opens_when_more_than_half_of_enough_calls_failed(bad: int, state: Mode) -> None:
    provider = Provider()
    outcomes = [True] * bad + [False] * (20 - bad)
    mixed = [outcomes[index * 7 % 20] for index in range(20)]  # never five in a row
    assert max(len(run) for run in "".join("x" if bad else " " for bad in mixed).split()) < LIMITS.failures
    for failed in mixed:
        provider.call(failed=failed)
    assert provider.state.mode is state


def test_too_few_calls_do_not_open() -> None:
    provider = Provider()
    for failed in [True, True, True, False] * 4 + [True, True, True]:
        provider.call(failed=failed)
    assert provider.state.mode is Mode.CLOSED


def test_calls_older_than_the_window_are_forgotten() -> None:
    provider = Provider()
    for _ in range(3):
        for failed in [True, True, True, False]:
            provider.call(failed=failed, after_s=1)
    provider.now += LIMITS.window_s
    for failed in [False] + [True, True, True, False] * 4 + [True, True]:
        provider.call(failed=failed)
    assert provider.state.mode is Mode.CLOSED, "19 calls in the window, though 31 were made"


def test_answer_that_says_nothing_about_health_neither_counts_nor_ends_the_row() -> None:
    provider = Provider()
    for _ in range(LIMITS.failures - 1):
        provider.call(failed=True)
        for _ in range(30):
            provider.call(failed=None)
    assert provider.breaker.admits()
    provider.call(failed=True)
    assert provider.state.mode is Mode.OPEN


# Half-open


def test_nothing_is_admitted_before_the_cooldown_is_over() -> None:
    provider = opened()
    provider.wait(LIMITS.cooldown_s - 0.01)
    assert not provider.breaker.admits()
    provider.wait(0.01)
    assert provider.state == BreakerState(Mode.HALF_OPEN, 2, "5 failures in a row", probe="pod-1")
    assert provider.breaker.admits()


def test_half_open_admits_one_call_at_a_time() -> None:
    provider = half_open()
    provider.breaker.begin()
    assert not provider.breaker.admits()


def test_only_the_prober_may_probe() -> None:
    other = Provider("pod-2", half_open().state)
    assert not other.breaker.admits()


@pytest.mark.parametrize("failed", [False, None])
def test_answered_probe_closes(failed: bool | None) -> None:  # noqa: FBT001
    provider = half_open()
    provider.call(failed=failed)
    assert provider.state.mode is Mode.CLOSED
    assert provider.breaker.admits()


def test_failed_probe_opens_again_for_a_whole_cooldown() -> None:
    provider = half_open()
    provider.call(failed=True)
    assert provider.state == BreakerState(Mode.OPEN, 3, "the probe failed")
    provider.wait(LIMITS.cooldown_s - 0.01)
    assert not provider.breaker.admits()


def test_probe_that_was_not_made_permits_another() -> None:
    provider = half_open()
    generation = provider.breaker.begin()
    provider.breaker.abandon(generation)
    assert provider.breaker.admits()


def test_abandoned_call_from_before_the_last_change_permits_no_probe() -> None:
    provider = half_open()
    provider.breaker.begin()
    provider.breaker.abandon(provider.state.generation - 1)
    assert not provider.breaker.admits()


def test_silent_prober_is_replaced() -> None:
    other = Provider("pod-2", half_open().state)
    other.wait(LIMITS.probe_timeout_s - 0.01)
    assert other.state.probe == "pod-1"
    other.wait(0.01)
    assert (other.state.probe, other.state.generation) == ("pod-2", 3)
    assert other.breaker.admits()


# Late answers, other pods, operators


@pytest.mark.parametrize("failed", [True, False, None])
def test_late_answer_from_before_the_breaker_opened_is_ignored(failed: bool | None) -> None:  # noqa: FBT001
    provider = Provider()
    late = provider.breaker.begin()
    for _ in range(LIMITS.failures):
        provider.call(failed=True)
    before = provider.state
    provider.answer(late, failed=failed)
    assert provider.state == before
    provider.wait(LIMITS.cooldown_s)
    provider.answer(late, failed=failed)
    assert provider.state.mode is Mode.HALF_OPEN


def test_change_of_state_resets_the_counts() -> None:
    provider = half_open()
    provider.call(failed=False)
    for _ in range(LIMITS.failures - 1):
        provider.call(failed=True)
    assert provider.state.mode is Mode.CLOSED


def test_state_that_another_pod_wrote_is_taken_over() -> None:
    other = Provider("pod-2", opened().state)
    assert not other.breaker.admits()
    other.wait(LIMITS.cooldown_s)
    assert other.state.probe == "pod-2"


def test_reading_the_same_state_does_not_restart_the_cooldown() -> None:
    provider = opened()
    provider.now += LIMITS.cooldown_s - 1
    provider.breaker.adopt(provider.state, provider.now)
    provider.wait(1)
    assert provider.state.mode is Mode.HALF_OPEN


def test_breaker_that_an_operator_forced_open_stays_open() -> None:
    provider = Provider(state=BreakerState(Mode.OPEN, 4, "maintenance", forced=True))
    provider.wait(100 * LIMITS.cooldown_s)
    assert provider.state.forced
    assert not provider.breaker.admits()


def test_breaker_that_an_operator_reset_is_closed_at_once() -> None:
    provider = opened()
    provider.breaker.adopt(BreakerState(Mode.CLOSED, provider.state.generation + 1), provider.now)
    assert provider.breaker.admits()


def test_every_change_raises_the_generation_by_one() -> None:
    seen = [0]
    provider = Provider()
    for _ in range(3):
        for _ in range(LIMITS.failures):
            provider.call(failed=True)
        seen.append(provider.state.generation)
        provider.wait(LIMITS.cooldown_s)
        seen.append(provider.state.generation)
        provider.call(failed=False)
        seen.append(provider.state.generation)
    assert seen == list(range(10))


def test_reason_names_the_code_of_the_last_failure():
    one = Breaker("pod-1", BreakerLimits(failures=2))
    assert one.record(0, 0.0, failed=True, code="503") is None
    opened = one.record(0, 1.0, failed=True, code="connect")
    assert opened is not None
    assert opened.reason == "2 failures in a row, the last with code connect"
    one.adopt(BreakerState(Mode.HALF_OPEN, 2, probe="pod-1"), 2.0)
    again = one.record(2, 3.0, failed=True, code="x" * 1000)
    assert again is not None
    assert again.reason == "the probe failed, the last with code " + "x" * 64
