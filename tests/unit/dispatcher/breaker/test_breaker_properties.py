"""Two pods, their shared breaker and an operator act in any order; the rules are checked at every write and call."""

import attrs
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.breaker.breaker import Breaker, BreakerLimits
from messaging.documents import BreakerState, Mode

LIMITS = BreakerLimits(failures=3, calls=6, window_s=20.0, cooldown_s=5.0, probe_timeout_s=8.0)


@attrs.define(eq=False)
class Call:
    pod: "Pod"
    seen: BreakerState


@attrs.define(eq=False)
class Pod:
    """A pod driven as by `BreakerSync`; `unwritten` holds changes to write, `answers` (generation, time, failed)."""

    name: str
    breaker: Breaker
    revision: int = 0
    unwritten: list[BreakerState] = attrs.Factory(list)
    answers: list[tuple[int, float, bool]] = attrs.Factory(list)

    def asks_to_open(self, now: float) -> bool:
        """Count from scratch whether the answers of this generation open the breaker."""
        mine = [(at, bad) for generation, at, bad in self.answers if generation == self.breaker.state.generation]
        in_a_row = len(mine) >= LIMITS.failures and all(bad for _, bad in mine[-LIMITS.failures :])
        lately = [bad for at, bad in mine if at > now - LIMITS.window_s]
        return in_a_row or (len(lately) >= LIMITS.calls and lately.count(True) > len(lately) / 2)


class Provider:
    """The document that pods and operator write by compare-and-set, and the calls in progress."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.written_at = self.now
        self.state, self.revision = BreakerState(), 0
        self.pods = [Pod(name, Breaker(name, LIMITS)) for name in ("pod-1", "pod-2")]
        self.calls: list[Call] = []

    def store(self, change: BreakerState) -> None:
        assert change.generation == self.state.generation + 1
        self.state, self.revision, self.written_at = change, self.revision + 1, self.now

    def operator(self, change: BreakerState) -> None:
        self.store(attrs.evolve(change, generation=self.state.generation + 1))

    def write(self, pod: Pod, change: BreakerState) -> None:
        before, waited = self.state, self.now - self.written_at
        if pod.revision != self.revision:
            self.look(pod)
            return
        assert not before.forced, "only an operator resets what an operator forced"
        match before.mode, change.mode:
            case Mode.CLOSED, Mode.OPEN:
                pass
            case Mode.OPEN, Mode.HALF_OPEN:
                assert waited >= LIMITS.cooldown_s
                assert change.probe == pod.name
            case Mode.HALF_OPEN, Mode.HALF_OPEN:
                assert waited >= LIMITS.probe_timeout_s
                assert change.probe == pod.name != before.probe
            case Mode.HALF_OPEN, Mode.OPEN | Mode.CLOSED:
                assert before.probe == pod.name
            case transition:
                raise AssertionError(f"{transition} is not a transition of a breaker")
        self.store(change)
        self.look(pod)

    def look(self, pod: Pod) -> None:
        pod.revision = self.revision
        pod.breaker.adopt(self.state, self.now)

    def refresh(self, pod: Pod) -> None:
        self.look(pod)
        if (change := pod.breaker.due_change(self.now)) is not None:
            self.write(pod, change)

    def flush(self, pod: Pod) -> None:
        if pod.unwritten and (change := pod.unwritten.pop(0)).generation == pod.breaker.state.generation + 1:
            self.write(pod, change)

    def call(self, pod: Pod) -> None:
        seen = pod.breaker.state
        admitted = pod.breaker.admits()
        if seen.mode is Mode.HALF_OPEN:
            under_way = any(call.seen.generation == seen.generation for call in self.calls)
            assert admitted == (seen.probe == pod.name and not under_way)
        else:
            assert admitted == (seen.mode is Mode.CLOSED)
        if admitted:
            assert pod.breaker.begin() == seen.generation
            self.calls.append(Call(pod, seen))

    def answer(self, call: Call, *, failed: bool | None) -> None:
        pod, before = call.pod, call.pod.breaker.state
        change = pod.breaker.record(call.seen.generation, self.now, failed=failed)
        assert pod.breaker.state == before, "a change takes effect only when it is written"
        if call.seen.generation != before.generation:
            assert change is None, "a late answer from before the last change"
        elif before.mode is Mode.HALF_OPEN:
            assert change is not None
            assert change.mode is (Mode.OPEN if failed else Mode.CLOSED)
        elif failed is None:
            assert change is None, "it says nothing about the provider's health"
        else:
            pod.answers.append((before.generation, self.now, failed))
            assert (change is not None) == pod.asks_to_open(self.now)
        if change is not None:
            pod.unwritten.append(change)

    def take(self, what: str, number: int) -> None:  # noqa: C901, PLR0912  one arm for each thing that happens
        pod = self.pods[number % 2]
        match what:
            case "call":
                self.call(pod)
            case "good" | "bad" | "says nothing" | "abandon" if self.calls:
                call = self.calls.pop(number % len(self.calls))
                if what == "abandon":
                    call.pod.breaker.abandon(call.seen.generation)
                else:
                    self.answer(call, failed={"good": False, "bad": True}.get(what))
            case "burst":
                for bit in range(6):
                    self.call(pod)
                    if self.calls:
                        self.answer(self.calls.pop(), failed=bool(number >> bit & 1))
                self.flush(pod)
            case "rest":
                self.now += LIMITS.cooldown_s
                for one in (pod, self.pods[1 - number % 2]):
                    self.refresh(one)
            case "flush":
                self.flush(pod)
            case "look":
                self.refresh(pod)
            case "wait":
                self.now += number % 13 / 2
            case "force":
                self.operator(BreakerState(Mode.OPEN, reason="maintenance", forced=True))
            case "reset":
                self.operator(BreakerState())
            case _:
                pass


OFTEN = ["call", "call", "bad", "bad", "good", "says nothing", "flush", "look", "wait", "burst", "burst", "rest"]
STEPS = st.lists(
    st.tuples(st.sampled_from([*OFTEN, *OFTEN, "abandon", "abandon", "force", "reset"]), st.integers(0, 63)),
    min_size=30,
    max_size=60,
)


@given(STEPS)
def test_breaker_keeps_its_rules_whatever_pods_and_operator_do(steps: list[tuple[str, int]]) -> None:
    provider = Provider()
    for pod in provider.pods * 3:
        provider.call(pod)
    for what, number in steps:
        provider.take(what, number)


@given(st.lists(st.tuples(st.sampled_from([True, True, False, None]), st.integers(0, 9)), max_size=40))
def test_open_breaker_admits_nothing_until_its_cooldown_is_over_and_then_one_call(
    outcomes: list[tuple[bool | None, int]],
) -> None:
    pod = Breaker("pod-1", LIMITS)
    late = [pod.begin() for _ in outcomes]
    now = 1000.0
    for _ in range(LIMITS.failures):
        if (change := pod.record(0, now, failed=True)) is not None:
            pod.adopt(change, now)
    for generation, (failed, tenths) in zip(late, outcomes, strict=True):
        now += min(tenths / 10, max(0.0, 1004.9 - now))
        assert not pod.admits()
        assert pod.due_change(now) is None
        assert pod.record(generation, now, failed=failed) is None
    half_open = pod.due_change(1000.0 + LIMITS.cooldown_s)
    assert half_open is not None
    pod.adopt(half_open, now)
    pod.begin()
    assert not pod.admits()
