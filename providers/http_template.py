"""Headers and fields of a request as templates in the providers file: names in braces are replaced by values."""

import urllib.parse
from collections.abc import Mapping
from typing import Any

from messaging.runtime.secret import Secret
from providers.base import Submission

_NUMBERS = ("segments", "attempt", "validity_s")
_SPELLED_NUMBERS = frozenset(f"{{{name}}}" for name in _NUMBERS)


def values_of(submission: Submission, default_sender: str) -> dict[str, Any]:
    """Return the values that a template may use, by name."""
    return {
        "message_id": submission.message_id,
        "recipient": submission.recipient,
        "digits": submission.recipient.lstrip("+"),
        "sender": submission.sender or default_sender,
        "body": submission.body,
        "segments": submission.segments,
        "attempt": submission.attempt,
        "unicode": str(submission.unicode).lower(),
        "validity_s": int(submission.validity_s),
    }


_EMPTY = Submission(
    message_id="",
    recipient="",
    body="",
    sender="",
    segments=0,
    unicode=False,
    attempt=0,
    validity_s=0.0,
    traceparent="",
)
NOTHING = dict.fromkeys(values_of(_EMPTY, ""), "")
"""Empty values: to check a template, and for the headers of a look-up."""


class _Secrets:
    """Holds each secret as an attribute, so that a template can say {secret.NAME}."""

    def __init__(self, secrets: Mapping[str, Secret]) -> None:
        for name, secret in secrets.items():
            setattr(self, name, secret.reveal())


class Template:
    """The headers and fields of one provider's requests.

    Its methods raise KeyError for a name that no message has, and ValueError, IndexError or TypeError for braces that
    cannot be filled in.
    """

    def __init__(self, headers: Mapping[str, str], fields: Mapping[str, str], secrets: Mapping[str, Secret]) -> None:
        self._headers = {name.lower(): text for name, text in headers.items()}
        self._fields = fields
        self._secrets = _Secrets(secrets)

    def headers(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Fill in the headers; their names are in lower case."""
        return self._filled(self._headers, values)

    def fields(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Fill in the fields, as text."""
        return self._filled(self._fields, values)

    def document(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Fill in the fields as a JSON document; a template that is only a name of a number becomes a number."""
        filled = self.fields(values)
        return nest(
            {name: int(text) if self._fields[name] in _SPELLED_NUMBERS else text for name, text in filled.items()}
        )

    def _filled(self, texts: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, str]:
        scope = {**values, "secret": self._secrets}
        try:
            return {name: text.format_map(scope) for name, text in texts.items()}
        except AttributeError as exc:
            raise ValueError("a secret that [provider.secrets] does not have") from exc


def nest(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted keys into nested objects, and keys that end in [] into lists with one item.

    Raises TypeError or AttributeError for a dotted key below a key that has a value.
    """
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


def message_url(template: str, base_url: str, message_id: str) -> str:
    """Make the URL that asks about one message; a template that begins with / is relative to the provider's host.

    Raises KeyError, ValueError or IndexError when it has any name in braces but {message_id}.
    """
    url = template.format(message_id=urllib.parse.quote(message_id, safe=""))
    return urllib.parse.urljoin(base_url, url) if url.startswith("/") else url
