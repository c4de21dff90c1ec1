"""The generic adapter, once for each way of sending."""

from typing import Any

from tests.contract.adapters.kit import KEY, NUMBER, STATUSES, TEXT, Kit
from tests.contract.provider_server import Reply

_SETTINGS: dict[str, Any] = {
    "headers": {"api-key": "{secret.api_key}", "x-kind": "sms"},
    "id_path": "data.0.id",
    "success_path": "ok",
    "success_values": [True, "success"],
    "code_path": "error.code",
    "statuses": {"transient": [500], "permanent": [460]},
    "codes": {"permanent": ["21211"], "provider_fault": [1001], "accepted": ["duplicate"], "throttled": ["slow"]},
}

_FIELDS = {
    "to": "{digits}",
    "sender": "{sender}",
    "text": "{body}",
    "ref": "{message_id}",
    "parts": "{segments}",
    "unicode": "{unicode}",
    "expiry": "{validity_s}",
    "try": "{attempt}",
}
_FLAT = {
    "to": NUMBER[1:],
    "sender": "ACME",
    "text": TEXT,
    "ref": "0190-message",
    "parts": "2",
    "unicode": "true",
    "expiry": "599",
    "try": "3",
}

_YES = Reply(200, {"ok": True, "data": [{"id": "p-9"}]})
_COMMON: dict[str, Any] = {
    "adapter": "http-json",
    "path": "/v2/send",
    "url_path": "/v2/send",
    "yes": _YES,
    "headers": {"api-key": KEY, "x-kind": "sms"},
    "statuses": {**STATUSES, 500: "transient", 460: "permanent"},
    "codes": {"21211": "permanent", "1001": "provider_fault", "duplicate": "accepted", "slow": "throttled"},
    "unclear": {"a no with the status of a yes": Reply(200, {"ok": False, "data": [{"id": "p-9"}]})},
}
_FORM = "application/x-www-form-urlencoded"

KITS = {
    "http-json, json": Kit(
        method="POST",
        carried=lambda seen: seen.json,
        expected={
            "message": {"to": [NUMBER], "from": "ACME", "content": {"text": TEXT, "parts": 2}},
            "ref": "0190-message",
            "expiry": 599,
            "unicode": "true",
        },
        settings={
            **_SETTINGS,
            "fields": {
                "message.to[]": "{recipient}",
                "message.from": "{sender}",
                "message.content.text": "{body}",
                "message.content.parts": "{segments}",
                "ref": "{message_id}",
                "expiry": "{validity_s}",
                "unicode": "{unicode}",
            },
            "look_up": {
                "url": "/v2/status/{message_id}",
                "id_path": "data.0.id",
                "missing": [404, 410],
                "authoritative": True,
            },
        },
        look_up_path="/v2/status/0190-message",
        found=_YES,
        **_COMMON,
    ),
    "http-json, form": Kit(
        method="POST",
        carried=lambda seen: seen.form,
        expected=_FLAT,
        settings={**_SETTINGS, "encoding": "form", "fields": _FIELDS},
        content_type=_FORM,
        **_COMMON,
    ),
    "http-json, put": Kit(
        method="PUT",
        carried=lambda seen: seen.form,
        expected=_FLAT,
        settings={**_SETTINGS, "method": "PUT", "encoding": "form", "fields": _FIELDS},
        content_type=_FORM,
        **_COMMON,
    ),
    "http-json, query": Kit(
        method="GET",
        carried=lambda seen: seen.query,
        expected=_FLAT,
        settings={**_SETTINGS, "method": "GET", "encoding": "query", "fields": _FIELDS},
        content_type="",
        **_COMMON,
    ),
}
