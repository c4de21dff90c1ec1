"""The dialect of `http-json`: HTTP requests and answers as the providers file describes them (see http_shape.py)."""

from collections.abc import Mapping
from typing import Any

from messaging.runtime.providers_file import Provider
from providers.base import ACCEPTED, AMBIGUOUS, THROTTLED, TRANSIENT, Answer, Outcome, Request, Submission, clean_code
from providers.bodies import FORM, JSON, form_body, json_body, read_json, text_at
from providers.http_shape import LookUp, Shape, read_shape
from providers.http_template import NOTHING, Template, message_url, values_of
from providers.retry_after import retry_after_s
from providers.statuses import OUTCOMES, name_of_status


class HttpGeneric:
    """The dialect of one provider; raises ConfigError when its settings are wrong."""

    def __init__(self, provider: Provider, shape: Shape | None = None) -> None:
        self._shape = shape = shape or read_shape(provider)
        self._template = Template(shape.headers, shape.fields, provider.secrets)
        self._url = provider.url
        self._query_url = provider.url.partition("#")[0].partition("?")[0]
        self._sender = provider.sender
        self._statuses = _inverted(shape.statuses)
        self._codes = _inverted(shape.codes)
        self.can_look_up = shape.look_up is not None
        self.missing_after_s = shape.look_up.waits_s(provider.timeout_s) if shape.look_up else 0.0

    def request(self, submission: Submission) -> Request:
        """Make the request that sends a message."""
        method, template = self._shape.method, self._template
        values = values_of(submission, self._sender)
        headers = template.headers(values)
        headers["traceparent"] = submission.traceparent
        match self._shape.encoding:
            case "json":
                headers.setdefault("content-type", JSON)
                return Request(method, self._url, headers, json_body(template.document(values)))
            case "form":
                headers.setdefault("content-type", FORM)
                return Request(method, self._url, headers, form_body(template.fields(values)))
            case "query":
                query = form_body(template.fields(values)).decode()
                return Request(method, f"{self._query_url}?{query}" if query else self._query_url, headers)

    def read(self, answer: Answer) -> Outcome:
        """Judge an answer by the provider's code, or by the status when the code is not known."""
        shape, document = self._shape, read_json(answer.body)
        name = self._statuses.get(answer.status) or name_of_status(answer.status)
        code = clean_code(text_at(document, shape.code_path)) or str(answer.status)
        name = self._codes.get(code, name)
        if name == "accepted" and answer.status // 100 == 2:
            if document is None:
                return Outcome(AMBIGUOUS, code=code, detail="the answer has a success status and cannot be read")
            if shape.success_path and text_at(document, shape.success_path) not in shape.success_values:
                return Outcome(AMBIGUOUS, code=code, detail="the answer has a success status and no success value")
        kind = OUTCOMES[name]
        detail = "" if kind == ACCEPTED else f"the provider answered {answer.status}, which means {name}"
        retry = retry_after_s(answer) if kind == THROTTLED else None
        return Outcome(kind, text_at(document, shape.id_path), code, detail, retry)

    def look_up_request(self, message_id: str, traceparent: str) -> Request:
        """Make the request that asks whether the provider has taken a message."""
        url = message_url(self._look_up.url, self._url, message_id)
        return Request("GET", url, {**self._template.headers(NOTHING), "traceparent": traceparent})

    def read_look_up(self, answer: Answer) -> Outcome | None:
        """Judge the answer: a yes has to show it, and a no has to be worth something."""
        look_up, document = self._look_up, read_json(answer.body)
        if answer.status in look_up.found:
            found = text_at(document, look_up.id_path or self._shape.id_path)
            if look_up.success_path:
                says_yes = text_at(document, look_up.success_path) in look_up.success_values
            else:
                says_yes = bool(found)
            return Outcome(ACCEPTED, found, detail="found by look-up") if says_yes else None
        if answer.status in look_up.missing and look_up.authoritative:
            return Outcome(TRANSIENT, code=str(answer.status), detail="the provider does not know the message")
        return None

    @property
    def _look_up(self) -> LookUp:
        if self._shape.look_up is None:
            raise ValueError("this provider has no look-up")
        return self._shape.look_up


def _inverted(table: Mapping[str, tuple[Any, ...]]) -> dict[Any, str]:
    return {key: name for name, keys in table.items() for key in keys}
