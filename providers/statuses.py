"""What an HTTP status means unless a provider's settings or its dialect say otherwise. Pure."""

from sms.gateway.v1 import message_pb2 as pb

from providers.base import ACCEPTED, AMBIGUOUS, PERMANENT, PROVIDER_FAULT, THROTTLED, TRANSIENT

OUTCOMES = {
    "accepted": ACCEPTED,
    "throttled": THROTTLED,
    "transient": TRANSIENT,
    "permanent": PERMANENT,
    "provider_fault": PROVIDER_FAULT,
    "ambiguous": AMBIGUOUS,
}
"""The outcomes by their names in the providers file."""

STATUSES: dict[int, str] = {
    400: "permanent",
    401: "provider_fault",
    402: "provider_fault",
    403: "provider_fault",
    404: "provider_fault",
    405: "provider_fault",
    406: "provider_fault",
    407: "provider_fault",
    408: "ambiguous",
    409: "ambiguous",
    411: "provider_fault",
    413: "permanent",
    414: "permanent",
    415: "provider_fault",
    417: "provider_fault",
    421: "transient",
    422: "permanent",
    425: "transient",
    426: "provider_fault",
    428: "provider_fault",
    429: "throttled",
    431: "provider_fault",
    501: "provider_fault",
    503: "transient",
    505: "provider_fault",
    511: "provider_fault",
}
"""What a status means.

A status that is not in the table is judged by its class: 2xx accepted, 3xx provider fault, 4xx permanent, 5xx
ambiguous. No API is assumed to be idempotent: one that answers 500 may have taken the message. 503 means that it has
not; so do 421, from a server that does not serve this name, and 425, from one that did not want to read it yet. 406,
407, 411, 417, 426, 428, 431, 501, 505 and 511 are about how we ask, or the network: every message would get them.
"""

_BY_CLASS = {2: "accepted", 3: "provider_fault", 4: "permanent", 5: "ambiguous"}


def name_of_status(status: int) -> str:
    """Return the name of the outcome that a status means; every status outside 200 to 599 is ambiguous."""
    return STATUSES.get(status) or _BY_CLASS.get(status // 100, "ambiguous")


def outcome_of_status(status: int) -> pb.AttemptOutcome.ValueType | None:
    """Return what a status means by itself, without its body; None for a success, whose body may say no."""
    kind = OUTCOMES[name_of_status(status)]
    return None if kind == ACCEPTED else kind
