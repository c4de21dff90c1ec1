"""Garbage as settings of the generic dialect: it is refused in words, or it can be sent and read."""

import datetime as dt
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st

from messaging.errors import ConfigError
from messaging.runtime.providers_file import Provider
from providers.base import Answer
from providers.http_generic import HttpGeneric
from providers.http_shape import Shape
from tests.contract.adapters.kit import SUBMISSION
from tests.unit.providers.test_http_settings import BAD_BRACES, KEY, SECRETS

_TEXTS = st.text(max_size=12) | st.sampled_from(
    [
        *BAD_BRACES,
        "{body}",
        "{segments}",
        "{secret.key}",
        "{secret.wrapped}",
        "a.b",
        "a[]",
        "a[0].b",
        "a[1]",
        "(a+)+",
        "(",
        "OK",
    ]
)
_VALUES = st.recursive(
    _TEXTS | st.booleans() | st.integers() | st.floats() | st.just(dt.date(2026, 1, 1)) | st.just(dt.time(1)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=6,
)
_NAMES = [field.name for field in attrs.fields(Shape)]
_RIGHT = {
    "method": st.sampled_from(["POST", "PUT", "GET"]),
    "encoding": st.sampled_from(["json", "form", "query"]),
    "answer": st.sampled_from(["json", "text", "xml", "status"]),
    "fields": st.dictionaries(_TEXTS, _VALUES, max_size=3),
    "headers": st.dictionaries(_TEXTS, _TEXTS, max_size=3),
    "basic_auth": st.fixed_dictionaries({"user": _TEXTS, "password": _TEXTS}),
    "look_up": st.fixed_dictionaries({"url": _TEXTS.map("/{}".format)}, optional={"id_path": _TEXTS}),
}
_SETTINGS = st.lists(st.sampled_from(_NAMES), max_size=4, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: _RIGHT.get(name, _VALUES) | _VALUES for name in names})
)
_URLS = _TEXTS.map("https://h/{}".format) | _TEXTS.map("https://{}/".format) | _TEXTS.map("https://h/?a={}".format)


def made_or_refused(provider: Provider) -> tuple[HttpGeneric | None, str]:
    try:
        return HttpGeneric(provider), ""
    except ConfigError as refused:
        return None, str(refused)


@given(settings=_SETTINGS, url=_URLS, body=st.text(max_size=20), sender=_TEXTS, answer=st.binary(max_size=20))
def test_settings_are_refused_in_words_or_can_be_sent_and_read(
    settings: dict[str, Any], url: str, body: str, sender: str, answer: bytes
) -> None:
    one, words = made_or_refused(
        Provider("a", "http-json", url, sender=sender, settings=settings, secrets=dict(SECRETS))
    )
    assert KEY not in words
    if one is None:
        assert words
        return
    if sender not in {".", ".."} and body not in {".", ".."}:
        made = one.request(attrs.evolve(SUBMISSION, body=body))
        assert made.method in {"POST", "PUT", "GET"}
    assert one.read(Answer(200, {}, answer, 0.0)).kind
    if one.can_look_up:
        assert one.look_up_request("m-1", "00-t").url
        one.read_look_up(Answer(200, {}, answer, 0.0))
