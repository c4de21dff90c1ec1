"""The samples of docs/connect-a-provider.md, each against a server that answers as that provider does."""

import base64
import pathlib
import re
import tomllib
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import attrs
import pytest

from dispatcher.transport.client import ProviderClient
from messaging.runtime.providers_file import Provider, parse_providers
from providers.base import ACCEPTED, AMBIGUOUS, PERMANENT, PROVIDER_FAULT, THROTTLED, TRANSIENT, Outcome
from tests.contract.adapters.kit import SUBMISSION, FakeGate
from tests.contract.adapters.kits import Open
from tests.contract.provider_server import ProviderServer, Reply, Seen

PAGE = pathlib.Path(__file__).parents[3] / "docs" / "connect-a-provider.md"
SAMPLES = re.findall(r"^```toml\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
KEYS = {
    "ACME_KEY": "acme-key",
    "TWILIO_ACCOUNT_SID": "AC1234",
    "TWILIO_AUTH_TOKEN": "tok/en+",
    "MNOTIFY_KEY": "mn+key/1",
    "BULKFORM_USER": "me",
    "BULKFORM_PASSWORD": "pass&word",
    "OLDQUERY_KEY": "old key",
}
BAD, EMPTY_PURSE, BUSY, BARRED = "+233200000001", "+233200000002", "+233200000003", "+233200000004"
"""Numbers for which the servers below refuse: a bad number, no credit, too many requests, an opt-out."""


def pairs(query: str) -> dict[str, str]:
    return dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True))


def acme(seen: Seen) -> Reply:
    document = seen.json
    if seen.method == "GET":
        raise AssertionError("no look-up here")
    if seen.headers.get("authorization") != "Bearer acme-key":
        return Reply(401, {"error": {"code": "BAD_KEY", "message": "The key is not known"}})
    assert seen.target == "/v2/messages"
    assert set(document) == {"destinations", "content", "clientRef"}
    match document["destinations"]:
        case [number] if number == BAD:
            return Reply(422, {"error": {"code": "INVALID_DESTINATION", "message": f"{number} is no mobile number"}})
        case [number] if number == EMPTY_PURSE:
            return Reply(200, {"error": {"code": "NO_CREDIT", "message": "Top up your account"}})
        case [number] if number == BUSY:
            return Reply(429, {}, headers={"Retry-After": "2"})
    assert set(document["content"]) == {"text", "from"}
    return Reply(202, {"messages": [{"id": "p-9", "status": "queued"}]})


def twilio(seen: Seen) -> Reply:
    assert (seen.method, seen.target) == ("POST", "/2010-04-01/Accounts/AC1234/Messages.json")
    assert seen.headers["content-type"] == "application/x-www-form-urlencoded"

    def error(status: int, code: int, message: str) -> Reply:
        more = f"https://www.twilio.com/docs/errors/{code}"
        return Reply(status, {"code": code, "message": message, "more_info": more, "status": status})

    if seen.headers.get("authorization") != "Basic " + base64.b64encode(b"AC1234:tok/en+").decode():
        return error(401, 20003, "Authenticate")
    fields = pairs(seen.body.decode())
    assert set(fields) == {"To", "From", "Body"}
    refusals = {
        BAD: (400, 21211, f"Invalid 'To' Phone Number: {fields['To']}"),
        EMPTY_PURSE: (400, 21606, f"The 'From' phone number {fields['From']} is not a valid message-capable number"),
        BUSY: (429, 20429, "Too Many Requests"),
        BARRED: (400, 21610, "Attempt to send to unsubscribed recipient"),
    }
    if fields["To"] in refusals:
        return error(*refusals[fields["To"]])
    taken = {"sid": "SM" + "a1" * 16, "status": "queued", "error_code": None, "error_message": None, "price": None}
    return Reply(
        201, {**taken, "to": fields["To"], "from": fields["From"], "body": fields["Body"], "num_segments": "2"}
    )


def mnotify(seen: Seen) -> Reply:
    assert (seen.method, seen.path) == ("POST", "/api/sms/quick")
    if pairs(urlsplit(seen.target).query) != {"key": "mn+key/1"}:
        return Reply(401, {"status": "error", "code": "1004", "message": "Invalid API key"})
    document = seen.json
    assert document.keys() == {"recipient", "sender", "message", "is_schedule", "schedule_date"}
    assert (document["is_schedule"], document["schedule_date"]) == (False, "")
    (number,) = document["recipient"]
    if number == f"0{EMPTY_PURSE[4:]}":
        return Reply(200, {"status": "error", "code": "1007", "message": "Insufficient balance"})
    if number == f"0{BUSY[4:]}":
        return Reply(429, {"message": "Too Many Attempts."}, headers={"Retry-After": "2"})
    rejected = int(number == f"0{BAD[4:]}")
    summary = {"_id": "A59CCB70", "type": "API QUICK SMS", "total_sent": 1 - rejected, "total_rejected": rejected}
    return Reply(
        200, {"status": "success", "code": "2000", "message": "messages sent successfully", "summary": summary}
    )


def bulkform(seen: Seen) -> Reply:
    fields = pairs(seen.body.decode())
    if (fields["username"], fields["password"]) != ("me", "pass&word"):
        return Reply(200, {"status": 2, "text": "login failed"})
    assert fields.keys() == {"username", "password", "to", "from", "message", "unicode", "ref"}
    codes = {BAD[1:]: 3, EMPTY_PURSE[1:]: 9, BUSY[1:]: 1}
    code = codes.get(fields["to"], 0)
    return Reply(200, {"status": code, "text": "no"} if code else {"status": 0, "id": 1234567})


def oldquery(seen: Seen) -> Reply:
    assert (seen.method, seen.path, seen.body) == ("GET", "/api/sms", b"")
    query = pairs(urlsplit(seen.target).query)
    assert query.keys() == {"account", "api_key", "to", "from", "text"}
    assert query["account"] == "77"
    refusals = {BAD[1:]: "105 invalid number", EMPTY_PURSE[1:]: "102 no credit left", BUSY[1:]: "109 slow down"}
    text = "ERR 101 wrong key" if query["api_key"] != "old key" else refusals.get(query["to"], "")
    body = f"ERR {text.removeprefix('ERR ')}\n" if text else "OK 4a7f\n"
    return Reply(200, body=body.encode(), headers={"Content-Type": "text/plain"}, then="close")


@attrs.frozen
class Sample:
    """A sample of the page, with the server that answers and what its refusals mean."""

    answer: Callable[[Seen], Reply]
    accepted: Outcome
    bad: tuple[int, str, str]
    no_credit: tuple[int, str, str]
    busy: tuple[int, str]
    wrong_key: tuple[int, str]


TABLE = {
    "acme": Sample(
        acme,
        Outcome(ACCEPTED, "p-9", "202"),
        (PERMANENT, "INVALID_DESTINATION", "is no mobile number"),
        (PROVIDER_FAULT, "NO_CREDIT", "Top up your account"),
        (THROTTLED, "429"),
        (PROVIDER_FAULT, "BAD_KEY"),
    ),
    "twilio": Sample(
        twilio,
        Outcome(ACCEPTED, "SM" + "a1" * 16, "201"),
        (PERMANENT, "21211", "Invalid 'To' Phone Number"),
        (PROVIDER_FAULT, "21606", "is not a valid message-capable number"),
        (THROTTLED, "20429"),
        (PROVIDER_FAULT, "20003"),
    ),
    "mnotify": Sample(
        mnotify,
        Outcome(ACCEPTED, "A59CCB70", "2000"),
        (PROVIDER_FAULT, "2000", "messages sent successfully"),
        (PROVIDER_FAULT, "1007", "Insufficient balance"),
        (THROTTLED, "429"),
        (PROVIDER_FAULT, "1004"),
    ),
    "bulkform": Sample(
        bulkform,
        Outcome(ACCEPTED, "1234567", "0"),
        (PERMANENT, "3", ""),
        (PROVIDER_FAULT, "9", ""),
        (THROTTLED, "1"),
        (PROVIDER_FAULT, "2"),
    ),
    "oldquery": Sample(
        oldquery,
        Outcome(ACCEPTED, "4a7f", "200"),
        (PERMANENT, "105", "105 invalid number"),
        (PROVIDER_FAULT, "102", "102 no credit left"),
        (THROTTLED, "109"),
        (PROVIDER_FAULT, "101"),
    ),
}
EVERY = pytest.mark.parametrize("name", TABLE)


def read_samples(**keys: str) -> dict[str, Provider]:
    tables: list[dict[str, Any]] = [table for sample in SAMPLES for table in tomllib.loads(sample)["provider"]]
    return {provider.name: provider for provider in parse_providers({"provider": tables}, {**KEYS, **keys})}


def connect(name: str, server: ProviderServer, opened: Open, **keys: str) -> ProviderClient:
    """Open the sample's client, with nothing changed but the host."""
    provider = read_samples(**keys)[name]
    server.answer = TABLE[name].answer
    return opened(attrs.evolve(provider, url=re.sub(r"https://[^/]+", server.url, provider.url), timeout_s=20.0))


async def send(client: ProviderClient, number: str = SUBMISSION.recipient) -> Outcome:
    return await client.send(attrs.evolve(SUBMISSION, recipient=number), FakeGate())


def test_every_sample_of_the_page_is_tried_here() -> None:
    assert set(read_samples()) == set(TABLE)
    for name in TABLE:
        assert f"| [{name}](#" in PAGE.read_text()


@EVERY
async def test_message_is_taken(name: str, server: ProviderServer, opened: Open) -> None:
    client = connect(name, server, opened)
    for _ in range(3):
        assert await send(client) == TABLE[name].accepted
    assert len(server.seen) == 3


@EVERY
async def test_bad_number_is_refused_in_the_providers_own_words(
    name: str, server: ProviderServer, opened: Open
) -> None:
    kind, code, words = TABLE[name].bad
    outcome = await send(connect(name, server, opened), BAD)
    assert (outcome.kind, outcome.code) == (kind, code)
    assert words in outcome.detail
    assert BAD[4:] not in outcome.detail


@EVERY
async def test_missing_credit_is_the_providers_fault(name: str, server: ProviderServer, opened: Open) -> None:
    kind, code, words = TABLE[name].no_credit
    outcome = await send(connect(name, server, opened), EMPTY_PURSE)
    assert (outcome.kind, outcome.code) == (kind, code)
    assert words in outcome.detail


@EVERY
async def test_too_many_requests_pause_the_lane(name: str, server: ProviderServer, opened: Open) -> None:
    outcome = await send(connect(name, server, opened), BUSY)
    assert (outcome.kind, outcome.code) == TABLE[name].busy


@EVERY
async def test_wrong_key_is_the_providers_fault_and_is_not_told(
    name: str, server: ProviderServer, opened: Open
) -> None:
    wrong = {variable: "no-such-key" for variable in KEYS if variable != "TWILIO_ACCOUNT_SID"}
    outcome = await send(connect(name, server, opened, **wrong))
    assert (outcome.kind, outcome.code) == TABLE[name].wrong_key
    assert "no-such-key" not in outcome.detail


@EVERY
async def test_answer_of_another_server_is_no_yes(name: str, server: ProviderServer, opened: Open) -> None:
    client = connect(name, server, opened)
    server.answer = lambda _: Reply(200, body=b"<html>Welcome to the router</html>")
    assert (await send(client)).kind == AMBIGUOUS
    server.answer = lambda _: Reply(503, body=b"<html>Busy</html>")
    assert (await send(client)).kind == TRANSIENT


async def test_opt_out_of_twilio_is_for_good(server: ProviderServer, opened: Open) -> None:
    outcome = await send(connect("twilio", server, opened), BARRED)
    assert (outcome.kind, outcome.code) == (PERMANENT, "21610")
    assert "Attempt to send to unsubscribed recipient" in outcome.detail
