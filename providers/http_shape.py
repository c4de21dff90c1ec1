"""The settings of a provider with the adapter `http-json`, which are enough for most simple APIs. Pure.

All are optional; docs/configuration.md explains each. Names in braces are replaced by values of the message
(http_template.values_of) or by secret.NAME.
"""

from typing import Any, Literal

import attrs

from providers.answer_form import Form

_MISSING_AFTER_S = 60.0
LONGEST_MISSING_AFTER_S = 7 * 86_400.0


@attrs.frozen
class LookUp:
    """How to ask whether the provider has taken a message, and what its answers are worth.

    A yes needs an id at `id_path` (empty: that of the send's answer), or one of `success_values` at `success_path`. A
    no counts only if the provider's look-up is `authoritative`, and only `missing_after_s` after the attempt has ended.
    """

    url: str
    found: tuple[int, ...] = (200,)
    missing: tuple[int, ...] = (404,)
    id_path: str = ""
    success_path: str = ""
    success_values: tuple[str, ...] = ()
    authoritative: bool = False
    missing_after_s: float | None = None

    def waits_s(self, timeout_s: float) -> float:
        """Return how long after an attempt a no begins to count, for a provider with this time-out."""
        return max(_MISSING_AFTER_S, 3 * timeout_s) if self.missing_after_s is None else self.missing_after_s


@attrs.frozen(repr=False)
class BasicAuth:
    """User and password of HTTP's basic authentication; both may hold secrets in braces."""

    user: str
    password: str = ""


@attrs.frozen(repr=False)
class Shape:
    """The settings of one provider, with their types checked.

    Each `…_path` is a place in a JSON or XML answer, and each `…_match` a regular expression on its text. A status
    below zero stands for its class: -5 is every 5xx.
    """

    method: Literal["POST", "PUT", "GET"] = "POST"
    encoding: Literal["json", "form", "query"] = "json"
    basic_auth: BasicAuth | None = None
    headers: dict[str, str] = attrs.Factory(dict)
    fields: dict[str, Any] = attrs.Factory(
        lambda: {"to": "{recipient}", "from": "{sender}", "text": "{body}", "reference": "{message_id}"}
    )
    answer: Form = "json"
    charset: str = ""
    id_path: str = ""
    id_match: str = ""
    success_path: str = ""
    success_values: tuple[str, ...] = ()
    success_match: str = ""
    empty_is_success: bool = False
    failure_path: str = ""
    failure_values: tuple[str, ...] = ()
    failure_match: str = ""
    failure_means: Literal["throttled", "transient", "permanent", "provider_fault", "ambiguous"] = "provider_fault"
    code_path: str = ""
    code_match: str = ""
    error_path: str = ""
    error_match: str = ""
    statuses: dict[str, tuple[int, ...]] = attrs.Factory(dict)
    codes: dict[str, tuple[str, ...]] = attrs.Factory(dict)
    look_up: LookUp | None = None


PATHS = ("id_path", "success_path", "failure_path", "code_path", "error_path")
MATCHES = ("id_match", "success_match", "failure_match", "code_match", "error_match")
