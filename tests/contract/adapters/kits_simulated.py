"""The simulated provider's adapter, with all of its settings and with none."""

from typing import Any

from tests.contract.adapters.kit import KEY, NUMBER, STATUSES, TEXT, Kit
from tests.contract.provider_server import Reply

_YES = Reply(200, {"id": "p-9", "status": "accepted", "reference": "0190-message"})
_COMMON: dict[str, Any] = {
    "adapter": "simulated",
    "method": "POST",
    "path": "/v1/messages",
    "carried": lambda seen: seen.json,
    "expected": {"reference": "0190-message", "to": NUMBER, "from": "ACME", "text": TEXT, "segments": 2},
    "codes": {"invalid_recipient": "permanent", "no_balance": "provider_fault", "unauthorized": "provider_fault"},
}

KITS = {
    "simulated": Kit(
        yes=_YES,
        settings={"look_up": True, "server_errors": "transient"},
        headers={"authorization": f"Bearer {KEY}"},
        statuses={**STATUSES, 500: "transient"},
        look_up_path="/v1/messages/0190-message",
        found=_YES,
        **_COMMON,
    ),
    "simulated, without a key": Kit(yes=Reply(200, {"id": "p-9", "status": "accepted"}), secrets={}, **_COMMON),
}
