"""The dialect of `http-json`: HTTP requests and answers as the providers file describes them (see http_shape.py)."""

import re
from collections.abc import Mapping
from typing import Any

from messaging.errors import ConfigError
from messaging.runtime.providers_file import Provider
from providers.answer_form import Contents, known_charset, read_contents
from providers.base import ACCEPTED, AMBIGUOUS, THROTTLED, TRANSIENT, Answer, Outcome, Request, Submission, clean_code
from providers.http_request import read_request
from providers.http_settings import read_shape
from providers.http_shape import MATCHES, LookUp, Shape
from providers.http_template import Faults
from providers.retry_after import retry_after_s
from providers.statuses import OUTCOMES, name_of_status


class HttpGeneric:
    """The dialect of one provider; raises ConfigError when its settings are wrong."""

    def __init__(self, provider: Provider, shape: Shape | None = None) -> None:
        self._shape = shape = shape or read_shape(provider)
        faults: Faults = []
        self._request = read_request(provider, shape, faults)
        if faults:
            raise ConfigError([(f"provider[{provider.name}]{key}", text) for key, text in faults])
        self._statuses = _inverted(shape.statuses)
        self._codes = {clean_code(code): name for code, name in _inverted(shape.codes).items()}
        self._charset = known_charset(shape.charset) if shape.charset else ""
        self._matches = {name: re.compile(text) if (text := getattr(shape, name)) else None for name in MATCHES}
        self._places = {
            what: (getattr(shape, f"{what}_path"), self._matches[f"{what}_match"]) for what in ("id", "code", "error")
        }
        self.can_look_up = shape.look_up is not None
        self.missing_after_s = shape.look_up.waits_s(provider.timeout_s) if shape.look_up else 0.0

    def request(self, submission: Submission) -> Request:
        """Make the request that sends a message."""
        return self._request.send(submission)

    def read(self, answer: Answer) -> Outcome:
        """Judge an answer by the provider's code, or by the status when the code is not known."""
        contents = read_contents(answer, self._shape.answer, self._charset)
        status = answer.status
        name = self._statuses.get(status) or self._statuses.get(-(status // 100)) or name_of_status(status)
        code = clean_code(self._value(contents, "code")) or str(status)
        name = self._codes.get(code, name)
        if name == "accepted" and status // 100 == 2:
            if code not in self._codes and self._says_no(contents):
                name = self._shape.failure_means
            elif doubt := self._doubt(contents):
                detail = f"the answer has a success status and {doubt}"
                return Outcome(AMBIGUOUS, code=code, detail=detail, said=self._error_text(contents))
        kind = OUTCOMES[name]
        detail = "" if kind == ACCEPTED else f"the provider answered {status}, which means {name}"
        retry = retry_after_s(answer) if kind == THROTTLED else None
        said = "" if kind == ACCEPTED else self._error_text(contents)
        return Outcome(kind, self._value(contents, "id"), code, detail, retry, said=said)

    def _value(self, contents: Contents, what: str) -> str:
        """Return what the settings name: the value at its path, or what its pattern finds."""
        path, pattern = self._places[what]
        return (contents.at(path) if path else "") or contents.matched(pattern) or ""

    def _says_no(self, contents: Contents) -> bool:
        shape = self._shape
        if shape.failure_path and contents.at(shape.failure_path) in shape.failure_values:
            return True
        return contents.matched(self._matches["failure_match"]) is not None

    def _doubt(self, contents: Contents) -> str:
        """Say what an answer with the status of a yes lacks to be one; empty for nothing."""
        shape = self._shape
        if shape.answer == "status" or (contents.is_empty and shape.empty_is_success):
            return ""
        if shape.answer != "text" and contents.document is None:
            return "cannot be read"
        if shape.success_path and contents.at(shape.success_path) not in shape.success_values:
            return "no success value"
        if shape.success_match and contents.matched(self._matches["success_match"]) is None:
            return "no success value"
        if shape.answer != "json" and not (shape.success_path or shape.success_match or self._value(contents, "id")):
            return "no id"
        return ""

    def _error_text(self, contents: Contents) -> str:
        """Return what the provider says is wrong, as it wrote it."""
        if self._shape.error_path or self._shape.error_match:
            return self._value(contents, "error")
        return contents.error_text()

    def look_up_request(self, message_id: str, traceparent: str) -> Request:
        """Make the request that asks whether the provider has taken a message."""
        return self._request.ask(message_id, traceparent)

    def read_look_up(self, answer: Answer) -> Outcome | None:
        """Judge the answer: a yes has to show it, and a no has to be worth something."""
        look_up = self._look_up
        if _among(answer.status, look_up.found):
            contents = read_contents(answer, self._shape.answer, self._charset)
            found = contents.at(look_up.id_path) if look_up.id_path else self._value(contents, "id")
            if look_up.success_path:
                says_yes = contents.at(look_up.success_path) in look_up.success_values
            else:
                says_yes = bool(found)
            return Outcome(ACCEPTED, found, detail="found by look-up") if says_yes else None
        if _among(answer.status, look_up.missing) and look_up.authoritative:
            return Outcome(TRANSIENT, code=str(answer.status), detail="the provider does not know the message")
        return None

    @property
    def _look_up(self) -> LookUp:
        if self._shape.look_up is None:
            raise ValueError("this provider has no look-up")
        return self._shape.look_up


def _among(status: int, statuses: tuple[int, ...]) -> bool:
    return status in statuses or -(status // 100) in statuses


def _inverted(table: Mapping[str, tuple[Any, ...]]) -> dict[Any, str]:
    return {key: name for name, keys in table.items() for key in keys}
