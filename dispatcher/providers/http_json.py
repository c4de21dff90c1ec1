"""A generic adapter: most simple providers are one HTTP call, described in the providers file.

Settings of its own, all optional (`{…}` is filled in from the message: message_id, recipient (E.164), digits (without
the plus), sender, body, segments, attempt, unicode (true or false), validity_s, secret.NAME):

    method = "POST"
    encoding = "json"                      json, form or query
    headers = {"api-key" = "{secret.key}"}
    fields = {to = "{recipient}", ...}     dotted keys make nested objects, a trailing [] makes a list of one
    id_path = "data.0.id"                  where the answer holds the provider's message id
    success_path = "status"                what must be one of success_values for the answer to mean yes
    success_values = ["success"]
    code_path = "error.code"               where an error answer holds the provider's code
    statuses = {permanent = [400, 422], ...}   HTTP statuses by outcome, over the table below
    codes = {permanent = ["21211"], ...}   provider codes by outcome; they beat the status
    look_up = {url = "…/{message_id}", found = [200], missing = [404], id_path = "id"}
"""

import json
import urllib.parse
from collections.abc import Mapping
from typing import Any, Literal, get_args

import attrs
import cattrs
import httpx

from dispatcher.providers.base import (
    ACCEPTED,
    AMBIGUOUS,
    PERMANENT,
    PROVIDER_FAULT,
    THROTTLED,
    TRANSIENT,
    Gate,
    Outcome,
    Submission,
)
from dispatcher.providers.http import Answer, HttpCaller, NoGate, retry_after_s
from messaging.errors import ConfigError
from messaging.runtime.providers_file import Provider

OUTCOMES = {
    "accepted": ACCEPTED,
    "throttled": THROTTLED,
    "transient": TRANSIENT,
    "permanent": PERMANENT,
    "provider_fault": PROVIDER_FAULT,
    "ambiguous": AMBIGUOUS,
}

STATUSES: dict[int, str] = {
    400: "permanent",
    401: "provider_fault",
    402: "provider_fault",
    403: "provider_fault",
    404: "provider_fault",
    405: "provider_fault",
    408: "ambiguous",
    409: "ambiguous",
    413: "permanent",
    414: "permanent",
    415: "provider_fault",
    422: "permanent",
    429: "throttled",
    503: "transient",
}
"""A status that is in no table: 2xx accepted, 3xx provider fault, 4xx permanent, 5xx ambiguous (no API is taken to be
idempotent, so whoever answers 500 may have taken the message; 503 says that it did not)."""

_BY_CLASS = {2: "accepted", 3: "provider_fault", 4: "permanent", 5: "ambiguous"}
_LONGEST_ID, _LONGEST_CODE = 128, 64


@attrs.frozen
class LookUp:
    """How to ask whether a message was taken."""

    url: str
    found: tuple[int, ...] = (200,)
    missing: tuple[int, ...] = (404,)
    id_path: str = ""


@attrs.frozen
class Shape:
    """The adapter's own settings."""

    method: Literal["POST", "PUT", "GET"] = "POST"
    encoding: Literal["json", "form", "query"] = "json"
    headers: dict[str, str] = attrs.Factory(dict)
    fields: dict[str, str] = attrs.Factory(
        lambda: {"to": "{recipient}", "from": "{sender}", "text": "{body}", "reference": "{message_id}"}
    )
    id_path: str = ""
    success_path: str = ""
    success_values: tuple[str, ...] = ()
    code_path: str = ""
    statuses: dict[str, tuple[int, ...]] = attrs.Factory(dict)
    codes: dict[str, tuple[str, ...]] = attrs.Factory(dict)
    look_up: LookUp | None = None


def read_shape(provider: Provider) -> Shape:
    """Read the settings of one provider; raises ConfigError with all that is wrong."""
    where = f"provider[{provider.name}].settings"
    try:
        shape = _converter().structure(provider.settings, Shape)
    except cattrs.BaseValidationError as exc:
        raise ConfigError([(where, text) for text in cattrs.transform_error(exc, path=where)]) from exc
    faults = [
        (f"{where}.{table}.{name}", f"is no outcome; there are {', '.join(OUTCOMES)}")
        for table in ("statuses", "codes")
        for name in getattr(shape, table)
        if name not in OUTCOMES
    ]
    try:
        _fill_all(shape, provider, dict.fromkeys(_NAMES, ""))
        if shape.look_up is not None:
            shape.look_up.url.format(message_id="")
    except (KeyError, ValueError, IndexError) as exc:
        faults.append((where, f"names something in braces that no message has: {exc}"))
    if shape.method == "GET" and shape.encoding != "query":
        faults.append((f"{where}.encoding", "must be query for the method GET"))
    if faults:
        raise ConfigError(faults)
    return shape


def _converter() -> cattrs.Converter:
    """Make the reader of settings; it refuses a lone word for a list, which would become a list of its letters."""

    def listed(value: Any, kind: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise TypeError("must be a list")
        if get_args(kind)[0] is int:
            return tuple(map(int, value))
        return tuple(map(_spelled, value))

    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook_func(lambda kind: kind in {tuple[int, ...], tuple[str, ...]}, listed)
    return converter


_NAMES = (
    "message_id",
    "recipient",
    "digits",
    "sender",
    "body",
    "segments",
    "attempt",
    "unicode",
    "validity_s",
)


_NUMBERS = frozenset({"{segments}", "{attempt}", "{validity_s}"})


class _Secrets:
    """Lets a template say {secret.NAME}."""

    def __init__(self, provider: Provider) -> None:
        for name, secret in provider.secrets.items():
            setattr(self, name, secret.reveal())


def _fill_all(shape: Shape, provider: Provider, values: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Fill headers and fields; raises KeyError or AttributeError's cousin ValueError for an unknown name."""
    scope = {**values, "secret": _Secrets(provider)}
    try:
        headers = {name: text.format(**scope) for name, text in shape.headers.items()}
        fields = {name: text.format(**scope) for name, text in shape.fields.items()}
    except AttributeError as exc:
        raise ValueError("a secret that [provider.secrets] does not hold") from exc
    return headers, fields


class HttpJson:
    """The adapter of one provider."""

    def __init__(self, provider: Provider, shape: Shape | None = None) -> None:
        self._provider = provider
        self._shape = shape or read_shape(provider)
        self._caller = HttpCaller(
            timeout_s=provider.timeout_s,
            max_connections=provider.max_in_flight,
            keepalive_s=provider.keepalive_s,
        )
        self._statuses = {**STATUSES, **_inverted(self._shape.statuses)}
        self._codes = _inverted(self._shape.codes)
        self._url = httpx.URL(provider.url)
        self.can_look_up = self._shape.look_up is not None

    async def send(self, submission: Submission, gate: Gate) -> Outcome:
        """Make the call; never raises for an answer."""
        shape = self._shape
        headers, fields = _fill_all(shape, self._provider, self._values(submission))
        headers["traceparent"] = submission.traceparent
        match shape.encoding:
            case "json":
                parts: dict[str, Any] = {"document": nest(_typed(shape, fields))}
            case "form":
                parts = {"form": fields}
            case "query":
                parts = {"params": fields}
        request = self._caller.build(shape.method, self._url, headers, **parts)
        answer = await self._caller.call(request, gate)
        if isinstance(answer, Outcome):
            return answer
        outcome = self.judge(answer)
        # A code is written down and logged: one that repeats the number says no more than the status.
        echoes = submission.recipient.lstrip("+") in outcome.code
        return attrs.evolve(outcome, code=str(answer.status)) if echoes else outcome

    async def look_up(self, message_id: str, traceparent: str) -> Outcome | None:
        """Ask whether the provider took a message; None when it cannot say."""
        wanted = self._shape.look_up
        if wanted is None:
            return None
        url = wanted.url.format(message_id=urllib.parse.quote(message_id, safe=""))
        if url.startswith("/"):
            url = urllib.parse.urljoin(self._provider.url, url)
        headers, _ = _fill_all(self._shape, self._provider, dict.fromkeys(_NAMES, ""))
        request = self._caller.build("GET", httpx.URL(url), {**headers, "traceparent": traceparent})
        answer = await self._caller.call(request, NoGate())
        if isinstance(answer, Outcome):
            return None
        if answer.status in wanted.found:
            return Outcome(
                ACCEPTED, _text_at(_document(answer), wanted.id_path)[:_LONGEST_ID], detail="found by look-up"
            )
        if answer.status in wanted.missing:
            return Outcome(TRANSIENT, code=str(answer.status), detail="the provider does not know the message")
        return None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._caller.aclose()

    def judge(self, answer: Answer) -> Outcome:
        """Turn an answer into an outcome, by the provider's codes first and the status second."""
        shape, document = self._shape, _document(answer)
        name = self._statuses.get(answer.status) or _BY_CLASS.get(answer.status // 100, "ambiguous")
        code = _clean(_text_at(document, shape.code_path)) or str(answer.status)
        name = self._codes.get(code, name)
        if name == "accepted" and answer.status // 100 == 2:
            if document is None:
                return Outcome(AMBIGUOUS, code=code, detail="an answer that says yes and cannot be read")
            if shape.success_path and _text_at(document, shape.success_path) not in shape.success_values:
                return Outcome(AMBIGUOUS, code=code, detail="an answer that says neither yes nor no")
        kind = OUTCOMES[name]
        detail = "" if kind == ACCEPTED else f"the provider answered {answer.status}, taken as {name}"
        retry = retry_after_s(answer.headers) if kind == THROTTLED else None
        return Outcome(kind, _text_at(document, shape.id_path)[:_LONGEST_ID], code, detail, retry)

    def _values(self, submission: Submission) -> dict[str, Any]:
        return {
            "message_id": submission.message_id,
            "recipient": submission.recipient,
            "digits": submission.recipient.lstrip("+"),
            "sender": submission.sender or self._provider.sender,
            "body": submission.body,
            "segments": submission.segments,
            "attempt": submission.attempt,
            "unicode": str(submission.unicode).lower(),
            "validity_s": int(submission.validity_s),
        }


def _typed(shape: Shape, fields: Mapping[str, str]) -> dict[str, Any]:
    """Let a field that is nothing but a number of ours travel as a number."""
    return {name: int(text) if shape.fields[name] in _NUMBERS else text for name, text in fields.items()}


def nest(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted keys into nested objects, and keys that end in [] into lists of one."""
    root: dict[str, Any] = {}
    for path, value in fields.items():
        *parents, last = path.split(".")
        node = root
        for parent in parents:
            node = node.setdefault(parent, {})
        if last.endswith("[]"):
            node[last[:-2]] = [value]
        else:
            node[last] = value
    return root


def _inverted(table: Mapping[str, tuple[Any, ...]]) -> dict[Any, str]:
    return {key: name for name, keys in table.items() for key in keys}


def _document(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None


def _text_at(document: Any, path: str) -> str:
    """Give what stands at a dotted path as text; empty when nothing does."""
    node = document
    for step in path.split(".") if path else ():
        if isinstance(node, dict):
            node = node.get(step)
        elif isinstance(node, list) and step.isdigit() and int(step) < len(node):
            node = node[int(step)]
        else:
            return ""
    return _spelled(node) if path and isinstance(node, str | int | float | bool) else ""


def _spelled(value: Any) -> str:
    """Write a value as JSON spells it, so that `true` in the file meets `true` in an answer."""
    return value if isinstance(value, str) else json.dumps(value)


def _clean(code: str) -> str:
    """Keep of a provider's code what a log may hold."""
    return "".join(char for char in code[:_LONGEST_CODE] if char.isalnum() or char in "-_.")
