"""A provider that exists in these tests only and does everything in another way than the generic adapter.

Its request is XML, its yes a line of plain text, its errors are `{"errors": [{"status": ...}]}`, and its pauses are
milliseconds in the body. That it passes shows that a new provider needs one dialect and one kit.
"""

import re
from xml.sax.saxutils import escape

from messaging.runtime.providers_file import Provider
from providers.base import (
    ACCEPTED,
    AMBIGUOUS,
    PERMANENT,
    PROVIDER_FAULT,
    THROTTLED,
    TRANSIENT,
    Answer,
    Outcome,
    Request,
    Submission,
)
from providers.bodies import read_json, text_at
from tests.contract.adapters.kit import KEY, NUMBER, SUBMISSION, TEXT, Kit
from tests.contract.provider_server import Reply

CODES = {
    "BadNumber": PERMANENT,
    "NoCredit": PROVIDER_FAULT,
    "SlowDown": THROTTLED,
    "Busy": TRANSIENT,
    "Again": AMBIGUOUS,
}
STATUSES = {401: PROVIDER_FAULT, 403: PROVIDER_FAULT, 420: THROTTLED, 500: AMBIGUOUS, 502: TRANSIENT, 503: TRANSIENT}
BY_CLASS = {2: AMBIGUOUS, 3: PROVIDER_FAULT, 4: PERMANENT}
_YES = re.compile(rb"OK ([a-z0-9-]+)\n")


class Foreign:
    """The dialect."""

    can_look_up = True
    missing_after_s = 60.0

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._key = provider.secrets["api_key"].reveal()

    def request(self, submission: Submission) -> Request:
        sender = submission.sender or self._provider.sender
        names = f'ref="{submission.message_id}" to="{submission.recipient}" from="{escape(sender)}"'
        body = f"<sms {names}>{escape(submission.body)}</sms>"
        headers = {"Token": self._key, "Content-Type": "application/xml", "traceparent": submission.traceparent}
        return Request("POST", f"{self._provider.url}/submit", headers, body.encode())

    def read(self, answer: Answer) -> Outcome:
        if answer.status == 202 and (yes := _YES.fullmatch(answer.body)):
            return Outcome(ACCEPTED, yes[1].decode(), "202")
        document = read_json(answer.body)
        code = text_at(document, "errors.0.status")
        kind = CODES.get(code) or STATUSES.get(answer.status) or BY_CLASS.get(answer.status // 100, AMBIGUOUS)
        wait_ms = text_at(document, "errors.0.wait_ms")
        pause_s = int(wait_ms) / 1000 if kind == THROTTLED and re.fullmatch(r"\d{1,9}", wait_ms) else None
        return Outcome(kind, "", code or str(answer.status), f"refused with {answer.status}", pause_s)

    def look_up_request(self, message_id: str, traceparent: str) -> Request:
        headers = {"token": self._key, "content-type": "text/plain", "traceparent": traceparent}
        return Request("POST", f"{self._provider.url}/find", headers, message_id.encode())

    def read_look_up(self, answer: Answer) -> Outcome | None:
        if answer.status == 200 and answer.body == b"none\n":
            return Outcome(TRANSIENT, code="none", detail="never heard of it")
        found = _YES.fullmatch(answer.body) if answer.status == 200 else None
        return Outcome(ACCEPTED, found[1].decode(), detail="it has it") if found else None


def _plain(status: int, body: bytes) -> Reply:
    return Reply(status, body=body, headers={"Content-Type": "text/plain"})


def _no(status: int, code: str) -> Reply:
    return Reply(status, {"errors": [{"status": code}]} if code else {"errors": []})


KITS = {
    "foreign": Kit(
        adapter="foreign",
        dialect=Foreign,
        method="POST",
        path="/api/submit",
        url_path="/api",
        carried=lambda seen: seen.body.decode(),
        expected=f'<sms ref="{SUBMISSION.message_id}" to="{NUMBER}" from="ACME">{TEXT}</sms>',
        content_type="application/xml",
        headers={"token": KEY},
        yes=_plain(202, b"OK p-9\n"),
        accepted=Outcome(ACCEPTED, "p-9", "202"),
        no=_no,
        repeats=lambda status, text: Reply(status, {"errors": [{"status": f"bad {NUMBER}", "text": text}]}),
        statuses={
            302: "provider_fault",
            400: "permanent",
            401: "provider_fault",
            403: "provider_fault",
            409: "permanent",
            420: "throttled",
            500: "ambiguous",
            502: "transient",
            503: "transient",
            504: "ambiguous",
        },
        codes={
            "BadNumber": "permanent",
            "NoCredit": "provider_fault",
            "SlowDown": "throttled",
            "Busy": "transient",
            "Again": "ambiguous",
        },
        detail="refused with {status}",
        unclear={
            "cut off": _plain(202, b"OK p-9"),
            "without an id": _plain(202, b"OK \n"),
            "with more behind it": _plain(202, b"OK p-9\nFAILED\n"),
            "with another status": _plain(200, b"OK p-9\n"),
        },
        pauses=[
            (lambda: Reply(420, {"errors": [{"status": "SlowDown", "wait_ms": 7500}]}), 7.5),
            (lambda: Reply(420, {"errors": [{"status": "SlowDown", "wait_ms": "soon"}]}), None),
            (lambda: Reply(420, {"errors": []}), None),
        ],
        look_up_path="/api/find",
        look_up_method="POST",
        look_up_body=b"0190-message",
        found=_plain(200, b"OK p-9\n"),
        found_as=Outcome(ACCEPTED, "p-9", detail="it has it"),
        missing=_plain(200, b"none\n"),
        missing_code="none",
    )
}
