"""Each line of the checker with hand-made records: it reports nothing on clean ones and counts what is wrong."""

from collections.abc import Callable

import attrs
import pytest
from sms.gateway.v1 import message_pb2 as pb

from tests.load.chaos.checker import Limits, check
from tests.load.chaos.ledger import Acceptance, Ledger
from tests.load.chaos.plan import KINDS, MOOD_KINDS, NET_KINDS, Beyond, make_plan
from tests.load.chaos.records import Arrival, History, Moment, Stored
from tests.load.chaos.stranger.moods import KEPT, MISSING_AFTER_S
from tests.load.chaos.stranger.strangers import arrival_of

SECOND = 1_000_000_000
SENT, SENDING, QUEUED = pb.MESSAGE_STATE_SENT, pb.MESSAGE_STATE_SENDING, pb.MESSAGE_STATE_QUEUED
CODES, NORMAL = f"p1/{pb.PRIORITY_OTP}", f"p1/{pb.PRIORITY_NORMAL}"
TAKEN, UNCLEAR = pb.ATTEMPT_OUTCOME_ACCEPTED, pb.ATTEMPT_OUTCOME_AMBIGUOUS


@attrs.define
class Records:
    """A run of three messages in which all went well."""

    ledger: Ledger = attrs.Factory(Ledger)
    arrivals: list[Arrival] = attrs.Factory(list)
    stored: dict[str, Stored] = attrs.Factory(dict)
    moments: dict[str, list[Moment]] = attrs.Factory(dict)
    newest: dict[str, tuple[int, int]] = attrs.Factory(dict)
    ended: list[str] = attrs.Factory(list)

    def __attrs_post_init__(self) -> None:
        for n, name in enumerate("abc"):
            self.ledger.accept(Acceptance(f"r{name}", name, 0.0, 1.0, 60.0))
            self.arrive(name, 2.0 + n)
            self.stored[name] = Stored(SENT, 10 * n + 2, (TAKEN,), CODES)
            self.moments[name] = [Moment(10 * n + 1, SENDING, 2.0, False), Moment(10 * n + 2, SENT, 2.1 + n, True)]
            self.newest[name] = (10 * n + 2, SENT)

    def arrive(self, name: str, at: float, provider: str = "p1") -> None:
        self.arrivals.append(Arrival(provider, int(at * SECOND), name, True))

    @property
    def history(self) -> History:
        return History(self.stored, self.moments, self.newest)

    def broken(self) -> set[str]:
        findings = check(self.ledger, self.arrivals, self.history, Limits(3, 4), self.ended)
        return {one.name for one in findings if one.broken}


def lose(records: Records) -> None:
    del records.stored["a"], records.moments["a"], records.newest["a"]
    records.arrivals = [one for one in records.arrivals if one.message_id != "a"]


def claim_sent(records: Records) -> None:
    records.arrivals = [one for one in records.arrivals if one.message_id != "a"]


def answer_with_two_ids(records: Records) -> None:
    records.ledger.accept(Acceptance("ra", "b", 0.0, 1.0, 60.0))


def refuse(records: Records) -> None:
    records.ledger.refused["rx"] = "INTERNAL"


def send_again_later(records: Records) -> None:
    records.arrive("a", 9.0)
    records.stored["a"] = Stored(SENT, 2, (UNCLEAR, TAKEN), CODES)


def send_again_blindly(records: Records) -> None:
    records.arrive("a", 2.05)


def send_again_although_nothing_allows_it(records: Records) -> None:
    records.arrive("a", 2.05)
    records.stored["a"] = Stored(SENT, 2, (UNCLEAR, TAKEN), NORMAL)


def invent(records: Records) -> None:
    records.arrive("x", 8.0)


def burst(records: Records) -> None:
    for name in "abca":
        records.arrive(name, 20.0, "p2")
    records.stored |= {name: Stored(SENT, records.newest[name][0], (UNCLEAR, UNCLEAR, TAKEN), CODES) for name in "abc"}
    records.moments = {name: [attrs.evolve(one, at=30.0) for one in records.moments[name]] for name in "abc"}


def burst_everywhere(records: Records) -> None:
    burst(records)
    records.arrivals = [attrs.evolve(one, provider=f"q{n}") for n, one in enumerate(records.arrivals)]
    records.arrive("b", 20.5, "q9")


def never_end(records: Records) -> None:
    records.stored["a"] = Stored(SENDING, 1, ())
    records.newest["a"] = (1, SENDING)
    records.moments["a"] = records.moments["a"][:1]


def go_backward(records: Records) -> None:
    records.moments["a"].append(Moment(3, QUEUED, 3.0, False))


def fall_behind(records: Records) -> None:
    records.newest["a"] = (3, SENT)


def forget_events(records: Records) -> None:
    del records.newest["a"]


def end_early(records: Records) -> None:
    records.ended.append("projector-1 ended with 1")


def test_clean_run_breaks_no_promise() -> None:
    assert Records().broken() == set()


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lose, "accepted and missing"),
        (claim_sent, "accepted and missing"),
        (answer_with_two_ids, "one request, two messages"),
        (refuse, "refused for good without a reason"),
        (send_again_later, "received twice although the answer had been recorded"),
        (send_again_blindly, "received twice without an unclear attempt"),
        (send_again_although_nothing_allows_it, "received twice without being a one-time code"),
        (invent, "sent although nobody accepted it"),
        (burst, "above the limit of p2 (highest second 4)"),
        (burst_everywhere, "above the fleet's limit (highest second 5)"),
        (never_end, "without a final state after the deadline"),
        (go_backward, "moved backward"),
        (fall_behind, "store and stream disagree"),
        (forget_events, "store and stream disagree"),
        (end_early, "processes that broke, or did not drain in time"),
    ],
)
def test_each_fault_is_reported_by_its_line_only(spoil: Callable[[Records], None], line: str) -> None:
    records = Records()
    spoil(records)
    assert records.broken() == {line}


def test_same_seed_gives_the_same_plan_with_every_kind_of_fault() -> None:
    names = (["gateway-1", "coordinator-1"], ["postgres", "nats"], ["p1", "p2"])
    plan = make_plan(7, 120.0, 1.5, *names)
    assert plan == make_plan(7, 120.0, 1.5, *names)
    assert plan != make_plan(8, 120.0, 1.5, *names)
    assert {one.kind for one in plan} == set(KINDS)


def test_no_target_gets_a_fault_while_an_earlier_one_lasts() -> None:
    plan = make_plan(3, 300.0, 0.5, ["a", "b"], ["postgres", "nats-1", "nats-2"], ["p1"])
    until: dict[str, float] = {}
    for fault in plan:
        unit = "nats" if fault.target.startswith("nats") else fault.target
        assert fault.at_s >= until.get(unit, 0.0)
        until[unit] = fault.at_s + fault.lasts_s


def test_message_that_expires_while_later_ones_are_tried_is_reported() -> None:
    records = Records()
    for n in range(6):
        records.ledger.accept(Acceptance(f"r{n}", f"later-{n}", 3.0, 3.1, 60.0))
        records.stored[f"later-{n}"] = Stored(SENT, 100 + n, (TAKEN,), "p1/1", 10 + n)
        records.moments[f"later-{n}"] = [Moment(100 + n, SENDING, 4.0, False)]
    expired = pb.MESSAGE_STATE_EXPIRED
    records.stored["a"] = Stored(expired, 1, (), "p1/1", 9)
    records.moments["a"] = [Moment(1, expired, 61.0, False)]

    def told() -> tuple[str, ...]:
        findings = check(records.ledger, [], History(records.stored, records.moments, {}), Limits(3, 4), [])
        [one] = [one for one in findings if one.name.startswith("expired untried")]
        return one.examples

    assert told() == ("a",)
    records.stored["a"] = Stored(expired, 1, (), "p2/1", 9)
    assert told() == (), "another lane"
    records.stored["a"] = Stored(expired, 1, (), "p1/1", 9)
    records.moments["a"] = [Moment(1, SENDING, 2.0, False), Moment(2, expired, 61.0, False)]
    assert told() == (), "it was tried"
    records.moments["a"] = [Moment(1, expired, 61.0, False)]
    records.stored["a"] = Stored(expired, 1, (), "p1/1", 12)
    assert told() == (), "only three came later"


def test_message_received_twice_after_a_provider_broke_its_word_is_marked_and_breaks_no_promise() -> None:
    records = Records()
    send_again_although_nothing_allows_it(records)
    records.arrivals[-1] = attrs.evolve(records.arrivals[-1], denied=True)
    assert records.broken() == set()
    findings = check(records.ledger, records.arrivals, records.history, Limits(3, 4))
    [marked] = [one for one in findings if one.name == "received twice after a provider broke its word"]
    assert marked.examples == ("a",)


def test_provider_that_broke_its_word_excuses_no_silence_in_the_story() -> None:
    records = Records()
    send_again_blindly(records)
    records.arrivals[-1] = attrs.evolve(records.arrivals[-1], denied=True)
    assert records.broken() == {"received twice without an unclear attempt"}


def test_behind_a_lossy_network_the_window_is_that_of_the_departures() -> None:
    records = Records()
    for second in range(4):
        records.arrive("a", 2.0 + second / 10, "s1")
    records.stored["a"] = Stored(SENT, 2, (UNCLEAR,) * 4 + (TAKEN,), CODES)
    records.moments["a"] = [attrs.evolve(one, at=30.0) for one in records.moments["a"]]

    def highest(departures: dict[str, list[int]]) -> list[str]:
        findings = check(records.ledger, records.arrivals, records.history, Limits(3, 9), (), departures)
        return [one.name for one in findings if one.name.startswith("above the limit of s1")]

    assert highest({}) == ["above the limit of s1 (highest second 4)"]
    assert highest({"s1": [second * SECOND for second in range(4)]}) == ["above the limit of s1 (highest second 1)"]


def test_taken_after_the_time_of_its_word_is_a_broken_word() -> None:
    kept = arrival_of("s1", {"at_ns": 0, "tag": "a", "taken_ns": MISSING_AFTER_S * SECOND})
    broken = arrival_of("s1", {"at_ns": 0, "tag": "a", "taken_ns": MISSING_AFTER_S * SECOND + 1})
    looked_up = arrival_of("s1", {"at_ns": 5, "tag": "a", "taken_ns": 0})
    assert [(one.taken, one.denied) for one in (kept, broken, looked_up)] == [
        (True, False),
        (True, True),
        (False, False),
    ]


def test_plan_of_a_long_run_has_every_kind_of_cut_and_mood() -> None:
    names = (["gateway-1", "coordinator-1"], ["postgres", "nats-leader", "nats-1"], ["p1", "p2"])
    beyond = Beyond(["nats-leader", "nats-1"], ["wire"], ["s1"], KEPT)
    plan = make_plan(7, 200.0, 1.5, *names, beyond)
    assert {one.kind for one in plan} == {*KINDS, *NET_KINDS, *MOOD_KINDS}
    assert {one.detail for one in plan if one.kind == "mood"} <= {*KEPT}
