"""The client of an HTTP provider, without a connection: what it refuses, and what it adds to a dialect."""

import json

import attrs
import httpx
import pytest

from dispatcher.transport.gate import OpenGate, WriteGate
from dispatcher.transport.http import HttpCaller, HttpProviderClient, open_client
from messaging.errors import ConfigError
from messaging.runtime.providers_file import Provider
from providers.base import ACCEPTED, AMBIGUOUS, PERMANENT, Answer, Outcome, Request, Submission
from providers.catalogue import dialect_of

SUBMISSION = Submission(
    message_id="m-1",
    recipient="+233201234567",
    body="Hi",
    sender="",
    segments=1,
    unicode=False,
    attempt=1,
    validity_s=60.0,
    traceparent="00-trace",
)


class Told(HttpCaller):
    """A caller that answers what it was told, and remembers each request."""

    def __init__(self, *answers: Answer | Outcome) -> None:
        super().__init__(timeout_s=1.0, max_connections=1, keepalive_s=1.0)
        self.answers = list(answers)
        self.requests: list[Request] = []

    async def call(self, request: Request, _gate: WriteGate) -> Answer | Outcome:
        self.requests.append(request)
        return self.answers.pop(0)


def client(caller: HttpCaller, **settings: object) -> HttpProviderClient:
    return HttpProviderClient(dialect_of(Provider("alpha", "http-json", "http://h/send", settings=settings)), caller)


BAD_URLS = [
    "http://h:port/send",
    "http://h/\x00",
    "http://h:65536/send",
    "http://h:99999999999/send",
    "http://h:0/send",
    "http://[::1",
    "http://[x]/",
    "http://@/",
    "http://:80/",
    "http://user:hush@h:port/",
    "http://xn--.example/",
    "http://a b.example/",
    "http://.example/",
    "http://a..example/",
    f"http://{'a' * 64}.example/",
    f"http://{'a.' * 200}example/",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_address_that_cannot_be_called_is_a_fault_of_the_settings(url: str) -> None:
    provider = Provider("alpha", "http-json", url)
    with pytest.raises(ConfigError) as refused:
        open_client(provider, dialect_of(provider))
    ((key, text),) = refused.value.faults
    assert key == "provider[alpha].url"
    assert "hush" not in text


@pytest.mark.parametrize("url", ["http://h:99999/{message_id}", "http://[x/{message_id}"])
def test_address_of_a_look_up_that_cannot_be_called_is_a_fault_of_its_own(url: str) -> None:
    provider = Provider("alpha", "http-json", "http://h/", settings={"look_up": {"url": url}})
    with pytest.raises(ConfigError) as refused:
        open_client(provider, dialect_of(provider))
    ((key, _),) = refused.value.faults
    assert key == "provider[alpha].settings.look_up.url"


@pytest.mark.parametrize(
    "url", ["http://h:65535/", "https://[::1]:8443/a", "http://user:pass@h/", "https://höst.example/"]
)
def test_address_that_can_be_called_is_none(url: str) -> None:
    provider = Provider("alpha", "http-json", url)
    open_client(provider, dialect_of(provider))


@pytest.mark.parametrize(
    "code", ["233201234567", "to-233201234567.bad", "+233201234567", "0201234567", "00233-20-1234567"]
)
async def test_code_that_repeats_the_number_is_replaced_by_the_status(code: str) -> None:
    answer = Answer(400, {}, f'{{"code": "{code}"}}'.encode(), 0.0)
    outcome = await client(Told(answer), code_path="code").send(SUBMISSION, OpenGate())
    assert (outcome.kind, outcome.code) == (PERMANENT, "400")


async def test_what_the_provider_says_stands_in_the_detail_without_number_text_and_key() -> None:
    said = "+233 20 123 4567 is barred; key hunter2-secret was used; text: Hi there, 4711"
    answer = Answer(400, {}, json.dumps({"message": said}).encode(), 0.0)
    one = HttpProviderClient(dialect_of(Provider("alpha", "http-json", "http://h/")), Told(answer), ("hunter2-secret",))
    outcome = await one.send(attrs.evolve(SUBMISSION, body="Hi there, 4711"), OpenGate())
    assert outcome.detail.startswith("the provider answered 400, which means permanent; it says: ")
    assert "is barred" in outcome.detail
    assert outcome.said == ""
    for forbidden in ("4567", "hunter2", "there", "4711"):
        assert forbidden not in outcome.detail


@pytest.mark.parametrize("found", ["233201234567", 233201234567, "0201234567", 201234567, {"a": 1}, None])
async def test_id_that_repeats_the_number_is_masked_also_as_a_number(found: object) -> None:
    answer = Answer(200, {}, json.dumps({"id": found}).encode(), 0.0)
    outcome = await client(Told(answer), id_path="id").send(SUBMISSION, OpenGate())
    assert outcome.kind == ACCEPTED
    assert outcome.provider_message_id == ("****" if isinstance(found, str | int) else "")


async def test_call_without_an_answer_is_not_read_by_the_dialect() -> None:
    broken = Outcome(AMBIGUOUS, code="timeout")
    one = client(Told(broken, broken), look_up={"url": "/{message_id}"})
    assert await one.send(SUBMISSION, OpenGate()) == broken
    assert await one.look_up("m-1", "00-trace", OpenGate()) is None


async def test_look_up_of_a_provider_that_cannot_be_asked_makes_no_call() -> None:
    caller = Told()
    assert await client(caller).look_up("m-1", "00-trace", OpenGate()) is None
    assert caller.requests == []


async def test_look_up_is_asked_and_read_by_the_dialect() -> None:
    caller = Told(Answer(200, {}, b'{"id": "p-9"}', 0.0))
    one = client(caller, look_up={"url": "/{message_id}", "id_path": "id"})
    assert await one.look_up("m-1", "00-trace", OpenGate()) == Outcome(ACCEPTED, "p-9", detail="found by look-up")
    assert [request.url for request in caller.requests] == ["http://h/m-1"]


def test_request_is_httpx_own_with_what_every_request_says() -> None:
    caller = HttpCaller(timeout_s=1.0, max_connections=1, keepalive_s=1.0)
    first = caller._build(Request("POST", "http://h/é?a=1", {"X-Key": "1"}, b"ab"))
    assert isinstance(first, httpx.Request)
    assert (first.method, str(first.url), first.content) == ("POST", "http://h/%C3%A9?a=1", b"ab")
    assert list(first.headers) == ["accept", "accept-encoding", "connection", "user-agent", "x-key"]
    second = caller._build(Request("GET", "http://h/b", {"User-Agent": "ACME"}))
    assert (str(second.url), second.headers["user-agent"], second.content) == ("http://h/b", "ACME", b"")
    assert str(caller._build(Request("GET", "http://h/é?a=1", {})).url) == "http://h/%C3%A9?a=1"
