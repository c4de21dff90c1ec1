"""The reasons that stand in a message's status, for programs (`MessageError.reason`). Pure.

docs/api.md prints this table. A test compares it with the code that writes reasons.
"""

REASONS: dict[str, str] = {
    "BREAKER_OPEN": "The provider's breaker was open or its queue paused; the message moved to another provider.",
    "CANCELED_BY_CALLER": "`CancelMessage` canceled it.",
    "EXHAUSTED": "Every attempt failed, and no retry is left.",
    "EXPIRED": "The deadline passed, or will pass before a next attempt, and no provider took it.",
    "NOT_SENT": "The attempt ended before its request was sent; it is repeated.",
    "PROVIDER_FAULT": "The provider cannot send at all now (credentials, balance, route); another one is tried.",
    "PROVIDER_REMOVED": "Its provider is no longer configured; it was routed anew.",
    "REFUSED": "The provider refused the recipient or the text for good.",
    "REFUSED_ALIKE": "The provider refuses every message for good, so it goes elsewhere or waits.",
    "REPLAYED": "An operator sent it again.",
    "ROUTED_WHEN_DUE": "Its schedule_time came, and another provider was chosen than at acceptance.",
    "THROTTLED": "The provider asked to slow down; it is tried again later.",
    "TRANSIENT": "The attempt failed and may work elsewhere or later.",
    "UNCLEAR": "It is not known whether the provider took it; it waits for a look-up or its deadline.",
    "UNCLEAR_RESENT": "It is not known whether the provider took it, and it is sent again, as one-time passwords are.",
    "UNKNOWN": "It is not known whether a provider took it, and the deadline has passed.",
}
