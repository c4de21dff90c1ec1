"""Builds a sample of each request at the start, so that settings with which nothing could be sent are refused there."""

import re
from collections.abc import Iterator

import httpx
from yarl import URL

from dispatcher.transport.guarded import Guarded
from providers.base import Dialect, Outcome, Request, Submission

_SAMPLE = Submission(
    message_id="00000000-0000-7000-8000-000000000000",
    recipient="+12025550100",
    body="Hello",
    sender="",
    segments=1,
    unicode=False,
    attempt=1,
    validity_s=60.0,
    traceparent="00-00000000000000000000000000000001-0000000000000001-00",
)
_HIGHEST_PORT = 65_535


def faults_of_requests(dialect: Dialect) -> Iterator[tuple[str, str]]:
    """Find what keeps a dialect's requests from being sent, by the setting's key. No sentence holds a value."""
    guarded = Guarded(dialect)
    send = guarded.request(_SAMPLE)
    if isinstance(send, Outcome):
        yield "settings", send.detail
    else:
        yield from _faults(send, "url")
    if dialect.can_look_up:
        ask = guarded.look_up_request(_SAMPLE.message_id, _SAMPLE.traceparent)
        if ask is None:
            yield "settings.look_up", "makes no request"
        else:
            yield from _faults(ask, "settings.look_up.url")


def _faults(request: Request, where: str) -> Iterator[tuple[str, str]]:
    if fault := _fault_of_url(request.url):
        yield where, fault
    for name, value in request.headers.items():
        if not re.fullmatch(r"[\x20-\x7e\t]*", value):
            yield f"settings.headers.{name}", "may have ASCII characters only, on one line"


def _fault_of_url(text: str) -> str:
    try:
        url, again = httpx.URL(text), URL(text)
    except (httpx.InvalidURL, ValueError):
        return "is not a URL that can be called; look at its host, port and at special characters"
    if url.scheme not in ("http", "https") or not url.host or not again.host:
        return "must be an http or https URL with a host"
    port = url.port if url.port is not None else 1
    return "" if 1 <= port <= _HIGHEST_PORT else f"has a port that is not between 1 and {_HIGHEST_PORT}"
