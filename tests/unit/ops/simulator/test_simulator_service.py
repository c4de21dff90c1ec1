import json
from typing import Any

import pytest

from ops.simulator.behaviour import FAULTS, Behaviour, ResponseMode
from ops.simulator.call_log import SECOND_NS
from ops.simulator.http import REASONS, Request
from ops.simulator.service import PlannedReply, Service

MESSAGE = {"reference": "m-1", "to": "+233241234567", "from": "ACME", "text": "hello", "segments": 2}


class Counter:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1


def service(behaviour: Behaviour | None = None, *, api_key: str | None = None) -> Service:
    return Service("p1", behaviour or Behaviour(), api_key, Counter())


def request(method: str, target: str, body: object = None, *, at_ns: int = 0, **headers: str) -> Request:
    path, _, query = target.partition("?")
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Request(method, path, query, headers, raw, at_ns, keep_alive=True)


def send(to: Service, *, at_ns: int = 0, headers: dict[str, str] | None = None, **changes: Any) -> PlannedReply:
    answer = to.answer(request("POST", "/v1/messages", MESSAGE | changes, at_ns=at_ns, **headers or {}))
    to.finish(answer, answered=answer.reply is not None)
    return answer


def read(answer: PlannedReply) -> tuple[int, Any]:
    assert answer.reply is not None
    return answer.reply.status, json.loads(answer.reply.body)


def ask(of: Service, method: str, target: str, body: object = None) -> tuple[int, Any]:
    return read(of.answer(request(method, target, body)))


def test_a_send_is_accepted_and_recorded_with_its_arrival() -> None:
    provider = service()
    status, body = read(send(provider, at_ns=1_700_000_000_250_000_000, headers={"traceparent": "00-a-b-01"}))
    assert (status, body) == (200, {"id": "p1-0", "status": "accepted", "reference": "m-1"})
    assert provider.record.entries[0].to_json() == {
        "n": 0, "at": 1_700_000_000.25, "at_ns": 1_700_000_000_250_000_000, "reference": "m-1",
        "to": "+233241234567", "segments": 2, "status": 200, "taken": True, "traceparent": "00-a-b-01",
        "finished": True,
    }  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_takes_and_answers_as_its_table_says(name: str) -> None:
    provider = service(Behaviour(force=name, hang_s=7, trickle_s=3))
    answer = send(provider)
    fault, entry = FAULTS[name], provider.record.entries[0]
    assert answer.mode is fault.mode
    assert answer.lasts_s == {ResponseMode.HANG: 7, ResponseMode.TRICKLE: 3}.get(fault.mode, 0)
    assert (entry.taken, entry.status, entry.finished) == (fault.taken, fault.status, True)
    assert ask(provider, "GET", "/v1/messages/m-1")[0] == (200 if fault.taken else 404)
    if name == "malformed":
        assert answer.reply is not None
        with pytest.raises(json.JSONDecodeError):
            json.loads(answer.reply.body)
    elif fault.status:
        status, body = read(answer)
        assert status == fault.status
        assert body.get("error") == ({"code": fault.code} if fault.code else None)
        assert body.get("status") == (None if fault.code else "accepted")
    else:
        assert answer.reply is None


def test_every_status_that_is_answered_has_its_reason_phrase() -> None:
    assert {fault.status for fault in FAULTS.values()} - {0} <= set(REASONS)


@pytest.mark.parametrize(
    ("retry_after_s", "header"), [(1, "1"), (20.0, "20"), (0.25, "0.25"), (0, "0"), (3600, "3600"), (None, None)]
)
def test_a_throttle_says_when_to_come_back(retry_after_s: float | None, header: str | None) -> None:
    answer = send(service(Behaviour(force="throttle", retry_after_s=retry_after_s)))
    assert answer.reply is not None
    assert answer.reply.headers.get("Retry-After") == header


def test_a_limit_is_enforced_from_the_arrival_times() -> None:
    provider = service(Behaviour(limit_per_s=2, retry_after_s=4))
    arrivals = [0, 1, SECOND_NS - 1, SECOND_NS, SECOND_NS]
    statuses = [read(send(provider, at_ns=at_ns))[0] for at_ns in arrivals]
    assert statuses == [200, 200, 429, 200, 429]
    assert [entry.taken for entry in provider.record.entries] == [True, True, False, True, False]
    refused = send(provider, at_ns=SECOND_NS).reply
    assert refused is not None
    assert refused.headers == {"Retry-After": "4"}


def test_a_limit_comes_before_a_forced_fault() -> None:
    provider = service(Behaviour(limit_per_s=1, force="server_error"))
    assert [read(send(provider))[0] for _ in range(2)] == [500, 429]


def test_the_key_is_demanded_of_sends_and_look_ups_but_not_of_the_controls() -> None:
    provider = service(api_key="k")
    right = {"authorization": "Bearer k"}
    for wrong in ({}, {"authorization": "Bearer kk"}, {"authorization": "k"}):
        assert read(send(provider, headers=wrong)) == (401, {"error": {"code": "unauthorized"}})
    assert read(send(provider, headers=right))[0] == 200
    assert ask(provider, "GET", "/v1/messages/m-1")[0] == 401
    assert read(provider.answer(request("GET", "/v1/messages/m-1", authorization="Bearer k")))[0] == 200
    assert ask(provider, "GET", "/_stats")[1]["by_status"] == {"200": 1, "401": 3}
    assert [entry.reference for entry in provider.record.entries] == ["m-1"] * 4


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"\xff", "body"),
        (b"[" * 100_000, "body"),
        (b"[]", "body"),
        ({"to": "+1"}, "reference"),
        ({"reference": "", "to": "+1"}, "reference"),
        ({"reference": "m", "to": 1}, "to"),
        ({"reference": "m", "to": "+1", "from": 1}, "from"),
        ({"reference": "m", "to": "+1", "text": None}, "text"),
        ({"reference": "m", "to": "+1", "segments": 0}, "segments"),
        ({"reference": "m", "to": "+1", "segments": True}, "segments"),
        ({"reference": "m", "to": "+1", "segments": "2"}, "segments"),
    ],
)
def test_a_send_that_cannot_be_read_names_the_field_and_still_counts_as_a_send(body: object, field: str) -> None:
    provider = service()
    answer = provider.answer(request("POST", "/v1/messages", body, at_ns=5))
    provider.finish(answer, answered=True)
    assert read(answer) == (400, {"error": {"code": "invalid_request", "field": field}})
    (entry,) = provider.record.entries
    assert (entry.at_ns, entry.segments, entry.taken, entry.status) == (5, 1, False, 400)


def test_segments_are_one_when_not_told() -> None:
    provider = service()
    provider.answer(request("POST", "/v1/messages", {"reference": "m", "to": "+1"}))
    assert provider.record.entries[0].segments == 1


def test_latency_and_its_jitter_delay_every_send_and_nothing_else() -> None:
    provider = service(Behaviour(latency_s=2, latency_jitter_s=1, rates={"throttle": 0.5}))
    delays = [send(provider).delay_s for _ in range(50)]
    assert all(2 <= delay < 3 for delay in delays)
    assert len(set(delays)) == 50
    assert provider.answer(request("GET", "/v1/messages/m-1")).delay_s == 0


def test_a_seed_repeats_the_faults_and_the_latencies() -> None:
    behaviour = Behaviour(rates={"throttle": 0.5}, latency_jitter_s=1, seed=11)

    def run(provider: Service) -> list[tuple[int, float]]:
        return [(read(answer)[0], answer.delay_s) for answer in (send(provider) for _ in range(30))]

    provider = service(behaviour)
    first = run(provider)
    provider.behaviour = behaviour
    assert run(provider) == first
    assert run(service(Behaviour(rates={"throttle": 0.5}, latency_jitter_s=1, seed=12))) != first


def test_a_look_up_is_no_send_and_finds_what_was_taken_first() -> None:
    provider = service()
    send(provider, reference="a/b ü")
    send(provider, reference="a/b ü")
    found = ask(provider, "GET", "/v1/messages/a%2Fb%20%C3%BC")
    assert found == (200, {"id": "p1-0", "status": "accepted", "reference": "a/b ü"})
    assert ask(provider, "GET", "/v1/messages/other") == (404, {"error": {"code": "not_found"}})
    stats = provider.stats()
    assert (stats["requests"], stats["lookups"], stats["duplicates"]) == (2, 2, 1)


def test_stats_know_what_is_still_in_flight() -> None:
    provider = service(Behaviour(latency_s=1))
    answer = provider.answer(request("POST", "/v1/messages", MESSAGE))
    assert (provider.stats()["in_flight"], provider.stats()["by_status"]) == (1, {})
    provider.finish(answer, answered=False)
    assert (provider.stats()["in_flight"], provider.stats()["by_status"]) == (0, {"0": 1})


def test_stats_have_exactly_the_keys_that_readers_rely_on() -> None:
    assert set(ask(service(), "GET", "/_stats")[1]) == {
        "name", "requests", "taken", "duplicates", "by_status", "highest_window", "highest_window_segments",
        "first_at", "last_at", "in_flight", "connections", "lookups",
    }  # fmt: skip


def test_the_record_is_read_from_any_index() -> None:
    provider = service()
    for number in range(3):
        send(provider, reference=f"m-{number}")
    for target, expected in {"/_requests": [0, 1, 2], "/_requests?after=2": [2], "/_requests?after=9": []}.items():
        reply = provider.answer(request("GET", target)).reply
        assert reply is not None
        assert reply.content_type == "application/x-ndjson"
        assert [json.loads(line)["n"] for line in reply.body.splitlines()] == expected
    assert ask(provider, "GET", "/_requests?after=-1")[0] == 400


def test_the_behaviour_is_replaced_whole_and_shown() -> None:
    provider = service(Behaviour(latency_s=1))
    assert ask(provider, "PUT", "/_behaviour", {"force": "lie"})[0] == 200
    assert provider.behaviour == Behaviour(force="lie")
    assert ask(provider, "GET", "/_behaviour") == (200, Behaviour(force="lie").to_json())


@pytest.mark.parametrize(
    ("body", "problem"), [({"frce": "lie"}, "frce: unknown key"), (b"{", "a behaviour must be a JSON object")]
)
def test_a_wrong_behaviour_is_refused_and_the_old_one_stays(body: object, problem: str) -> None:
    provider = service(Behaviour(latency_s=1))
    status, answer = ask(provider, "PUT", "/_behaviour", body)
    assert (status, answer) == (400, {"error": {"code": "invalid_behaviour", "problems": [problem]}})
    assert provider.behaviour == Behaviour(latency_s=1)


def test_reset_clears_record_limit_and_statistics_but_not_the_behaviour() -> None:
    provider = service(Behaviour(limit_per_s=1))
    record = provider.record
    send(provider)
    assert ask(provider, "POST", "/_reset") == (200, {"status": "reset"})
    assert provider.record is record
    assert (provider.stats()["requests"], provider.behaviour.limit_per_s) == (0, 1)
    assert read(send(provider))[1]["id"] == "p1-1"


def test_a_send_that_ends_after_a_reset_is_not_counted() -> None:
    provider = service()
    answer = provider.answer(request("POST", "/v1/messages", MESSAGE))
    provider.reset()
    provider.finish(answer, answered=True)
    assert (provider.stats()["by_status"], provider.stats()["in_flight"]) == ({}, 0)


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/messages", 404),
        ("POST", "/v1/messages/x", 404),
        ("POST", "/_stats", 404),
        ("DELETE", "/v1/messages/x", 405),
    ],
)
def test_unknown_paths_and_methods(method: str, target: str, status: int) -> None:
    reply = service().answer(request(method, target)).reply
    assert reply is not None
    assert reply.status == status


def test_a_405_has_no_body_because_it_also_answers_head() -> None:
    reply = service().answer(request("HEAD", "/_stats")).reply
    assert reply is not None
    assert (reply.body, reply.headers) == (b"", {"Allow": "GET, POST, PUT"})


def test_every_change_of_the_record_is_noticed() -> None:
    on_change = Counter()
    provider = Service("p1", Behaviour(), None, on_change)
    answer = provider.answer(request("POST", "/v1/messages", MESSAGE))
    assert on_change.calls == 1
    provider.finish(answer, answered=True)
    assert on_change.calls == 2
    provider.answer(request("GET", "/v1/messages/m-1"))
    provider.reset()
    assert on_change.calls == 4
