"""Builds a sample of each request at the start, so that settings with which nothing could be sent are refused there."""

import re
from collections.abc import Iterator

import attrs
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
_HOST = re.compile(r"(?=.{1,254}$)([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")
_IN_HEADER = re.compile(r"[\x20-\x7e\t]*")


_OTHERS = {
    "recipient": (attrs.evolve(_SAMPLE, recipient="+233201234567"), "put {recipient}, {digits} or {national} into it"),
    "text": (attrs.evolve(_SAMPLE, body="Goodbye"), "put {body} into it"),
}
"""Other messages. A request that is the same for them says nothing of what they differ in."""
_OTHER_ID = "ffffffff-ffff-7fff-bfff-ffffffffffff"
_ANY_TEXT = attrs.evolve(_SAMPLE, body="\u00e9\n")


def faults_of_requests(dialect: Dialect) -> Iterator[tuple[str, str]]:
    """Find what keeps a dialect's requests from being sent, by the setting's key. No sentence holds a value."""
    guarded = Guarded(dialect)
    send = guarded.request(_SAMPLE)
    if isinstance(send, Outcome):
        yield "settings", send.detail
    else:
        yield from _faults(send, "url")
        yield from _omissions(guarded, send)
    if dialect.can_look_up:
        yield from _look_up_faults(guarded, send)


def _omissions(guarded: Guarded, send: Request) -> Iterator[tuple[str, str]]:
    """Find what every request must hold and this one does not, and a text where only some texts can stand."""
    for what, (other, cure) in _OTHERS.items():
        if guarded.request(other) == send:
            yield "settings", f"make a request without the {what} of the message: {cure}"
    strange = guarded.request(_ANY_TEXT)
    for name, value in strange.headers.items() if isinstance(strange, Request) else ():
        if value != send.headers.get(name) and not _IN_HEADER.fullmatch(value):
            yield f"settings.headers.{name}", "holds the text of a message, of which a header can have only some"


def _look_up_faults(guarded: Guarded, send: Request | Outcome) -> Iterator[tuple[str, str]]:
    ask = guarded.look_up_request(_SAMPLE.message_id, _SAMPLE.traceparent)
    if ask is None:
        yield "settings.look_up", "makes no request"
        return
    yield from _faults(ask, "settings.look_up.url")
    if guarded.look_up_request(_OTHER_ID, _SAMPLE.traceparent) == ask:
        yield "settings.look_up.url", "asks about no message: put {message_id} into it"
    elif guarded.request(attrs.evolve(_SAMPLE, message_id=_OTHER_ID)) == send:
        cure = "put {message_id} into a field, or leave the look-up out"
        yield "settings.look_up", f"asks for an id that the provider never gets: {cure}"


def _faults(request: Request, where: str) -> Iterator[tuple[str, str]]:
    if fault := _fault_of_url(request.url):
        yield where, fault
    for name, value in request.headers.items():
        if not _IN_HEADER.fullmatch(value):
            yield f"settings.headers.{name}", "may have ASCII characters only, on one line"


def _fault_of_url(text: str) -> str:
    try:
        url, again = httpx.URL(text), URL(text)
        host = url.host  # decodes an international name
    except (httpx.InvalidURL, ValueError):
        return "is not a URL that can be called; look at its host, port and at special characters"
    if url.scheme not in ("http", "https") or not host or not again.host:
        return "must be an http or https URL with a host"
    if ":" not in host and not _HOST.fullmatch(url.raw_host.decode()):
        return (
            "has a host that cannot be one: it is names of 1 to 63 letters, digits and hyphens, with dots between them"
        )
    port = url.port if url.port is not None else 1
    return "" if 1 <= port <= _HIGHEST_PORT else f"has a port that is not between 1 and {_HIGHEST_PORT}"
