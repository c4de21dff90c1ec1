"""The request as it leaves, and what nobody may see of it elsewhere."""

import asyncio
import importlib.metadata
import logging

import attrs
import pytest
import structlog

from dispatcher.transport.gate import GateClosed
from messaging.runtime.providers_file import Provider
from providers.base import (
    ACCEPTED,
)
from providers.catalogue import CATALOGUE
from tests.contract.adapters.kit import KEY, NUMBER, SUBMISSION, TEXT, TIMEOUT_S, TRACEPARENT, FakeGate, Kit
from tests.contract.adapters.kits import EVERY, KITS, Open, send
from tests.contract.provider_server import CLOSE, NOTHING, RESET, ProviderServer, Reply, Seen

ALWAYS = {
    "host",
    "accept",
    "accept-encoding",
    "connection",
    "user-agent",
    "content-length",
    "content-type",
    "traceparent",
}
"""What every request has; the rest is the provider's own."""


def test_every_adapter_of_the_catalogue_is_tried_here() -> None:
    assert {kit.adapter for kit in KITS.values() if kit.dialect is None} == set(CATALOGUE)


# The request
@EVERY
async def test_request_is_exactly_this(kit: Kit, server: ProviderServer, opened: Open) -> None:
    server.answer = lambda _: kit.yes
    outcome = await send(opened(kit.provider(server.url)))
    assert outcome == kit.accepted
    (seen,) = server.seen
    assert (seen.method, seen.path) == (kit.method, kit.path)
    assert kit.carried(seen) == kit.expected
    assert seen.headers["traceparent"] == TRACEPARENT
    assert seen.headers["accept-encoding"] == "identity"
    assert seen.headers.get("content-type", "") == kit.content_type
    assert {name: value for name, value in seen.headers.items() if name not in ALWAYS} == kit.headers


@EVERY
async def test_user_agent_names_what_sends_and_its_version(kit: Kit, server: ProviderServer, opened: Open) -> None:
    await send(opened(kit.provider(server.url)))
    assert server.seen[0].headers["user-agent"] == f"sms-gateway/{importlib.metadata.version('sms-gateway')}"


async def test_providers_own_headers_beat_those_of_every_request(server: ProviderServer, opened: Open) -> None:
    own = {"User-Agent": "ACME/7", "ACCEPT": "text/plain", "Content-Type": "application/vnd.sms+json"}
    await send(opened(Provider("alpha", "http-json", server.url, settings={"headers": own})))
    seen = server.seen[0].headers
    assert [seen[name] for name in ("user-agent", "accept", "content-type")] == list(own.values())


@EVERY
async def test_senders_own_name_beats_the_providers(kit: Kit, server: ProviderServer, opened: Open) -> None:
    server.answer = lambda _: kit.yes
    await opened(kit.provider(server.url)).send(attrs.evolve(SUBMISSION, sender="Other"), FakeGate())
    shown = kit.shown(server.seen[0])
    assert "Other" in shown
    assert "ACME" not in shown


@EVERY
async def test_environment_and_cookies_change_nothing(
    kit: Kit, server: ProviderServer, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    # By its name: cookies of a bare address are kept by nobody.
    client = opened(kit.provider(server.url.replace("127.0.0.1", "localhost")))
    server.answer = lambda _: attrs.evolve(kit.yes, headers={"Set-Cookie": "session=1; Path=/"})
    assert [(await send(client)).kind for _ in range(2)] == [ACCEPTED, ACCEPTED]
    assert all("cookie" not in seen.headers for seen in server.seen)


@EVERY
@pytest.mark.parametrize(("keepalive_s", "connections"), [(600.0, 1), (0.05, 2)])
async def test_connection_is_kept_as_long_as_the_provider_allows(
    kit: Kit, keepalive_s: float, connections: int, server: ProviderServer, opened: Open
) -> None:
    server.answer = lambda _: kit.yes
    client = opened(kit.provider(server.url, keepalive_s=keepalive_s))
    await send(client)
    await asyncio.sleep(0.3)
    await send(client)
    assert server.connections == connections


@EVERY
async def test_no_more_connections_are_opened_than_messages_may_be_in_flight(
    kit: Kit, server: ProviderServer, opened: Open
) -> None:
    server.answer = lambda _: attrs.evolve(kit.yes, delay_s=0.1)
    client = opened(kit.provider(server.url, max_in_flight=2))
    await asyncio.gather(*(send(client) for _ in range(6)))
    assert (len(server.seen), server.connections) == (6, 2)


# What nobody may see
@EVERY
async def test_no_secret_text_or_number_reaches_outcome_log_or_exception(
    kit: Kit, server: ProviderServer, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    def echo(status: int, seen: Seen) -> Reply:
        """A provider that repeats what it was sent, as the reason of its refusal."""
        return kit.repeats(status, f"{seen.target} {seen.headers} {seen.body.decode()} {NUMBER} {TEXT} {KEY}")

    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    client = opened(kit.provider(server.url, timeout_s=TIMEOUT_S))
    with structlog.testing.capture_logs() as events:
        for status in (200, 302, 400, 401, 429, 500, 503):
            server.answer = lambda seen, status=status: echo(status, seen)  # type: ignore[misc]
            outcome = await send(client)
            told += [repr(outcome), str(outcome), outcome.code, outcome.detail]
        for reply in (NOTHING, RESET, CLOSE, Reply(raw=b"HTTP/1.1 999999 " + TEXT.encode(), then="close")):
            server.answer = lambda _, reply=reply: reply  # type: ignore[misc]
            told.append(repr(await send(client)))
        with pytest.raises(GateClosed) as refused:
            await send(client, FakeGate(refuse=True))
        error: BaseException | None = refused.value
        while error is not None:
            told += [repr(error), str(error)]
            error = error.__cause__ or error.__context__
    told += [repr(client), str(client), repr(SUBMISSION), str(SUBMISSION), repr(kit.provider(server.url))]
    told += [str(event) for event in events]
    told += [f"{record.getMessage()} {record.exc_info}" for record in caplog.records]
    for line in told:
        for forbidden in (KEY, TEXT, "4711", NUMBER, NUMBER[1:]):
            assert forbidden not in line
