"""The settings in the providers file: which are read, and which are refused and how."""

from typing import Any

import pytest

from messaging.errors import ConfigError
from messaging.runtime.providers_file import Provider
from messaging.runtime.secret import Secret
from providers.catalogue import CATALOGUE, dialect_of
from providers.field_tree import plant
from providers.http_settings import read_shape
from providers.http_shape import Shape
from providers.simulated import Simulated
from providers.statuses import OUTCOMES

KEY = "hunter2"


def provider(adapter: str = "http-json", **settings: Any) -> Provider:
    return Provider("alpha", adapter, "http://h/send", settings=settings, secrets={"key": Secret(KEY)})


def faults(one: Provider) -> str:
    with pytest.raises(ConfigError) as refused:
        (Simulated if one.adapter == "simulated" else read_shape)(one)
    assert KEY not in str(refused.value)
    assert all(
        key.startswith("provider[alpha].settings") or "provider[alpha]" in text for key, text in refused.value.faults
    )
    return str(refused.value)


def test_shape_without_settings_is_a_json_post() -> None:
    assert read_shape(provider()) == Shape()


def test_shape_is_read_whole() -> None:
    shape = read_shape(
        provider(
            method="GET",
            encoding="query",
            headers={"authorization": "Bearer {secret.key}"},
            fields={"to": "{digits}"},
            success_path="ok",
            success_values=[True, 0, "yes"],
            statuses={"permanent": [460]},
            code_path="code",
            codes={"throttled": [7, "8"]},
            look_up={"url": "/x/{message_id}", "found": [200, 203]},
        )
    )
    assert shape.success_values == ("true", "0", "yes"), "as JSON spells them"
    assert shape.statuses == {"permanent": (460,)}
    assert shape.codes == {"throttled": ("7", "8")}
    assert shape.look_up is not None
    assert (shape.look_up.found, shape.look_up.missing) == ((200, 203), (404,))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown setting": ({"metod": "POST"}, "metod"),
    "method": ({"method": "DELETE"}, "method"),
    "encoding": ({"encoding": "xml"}, "encoding"),
    "GET with a body": ({"method": "GET"}, "encoding"),
    "outcome of a status": ({"statuses": {"fatal": [400]}}, "statuses.fatal"),
    "outcome of a code": ({"codes": {"fatal": ["x"]}}, "codes.fatal"),
    "status that is no number": ({"statuses": {"permanent": ["x"]}}, "statuses"),
    "lone status": ({"statuses": {"permanent": "400"}}, "statuses"),
    "lone code": ({"codes": {"permanent": "21211"}}, "codes"),
    "lone success value": ({"success_values": "success"}, "success_values"),
    "unknown name in a field": ({"fields": {"to": "{phone}"}}, "phone"),
    "unknown name in a header": ({"headers": {"x": "{phone}"}}, "phone"),
    "empty braces": ({"fields": {"to": "{}"}}, "braces"),
    "open brace": ({"fields": {"to": "{"}}, "braces"),
    "index of a field": ({"fields": {"to": "{body[x]}"}}, "braces"),
    "key through a value": ({"fields": {"to": "{recipient}", "to.name": "{sender}"}}, "fields"),
    "key through a list": ({"fields": {"to[]": "{recipient}", "to.name": "{sender}"}}, "fields"),
    "unknown secret": ({"headers": {"x": "{secret.other}"}}, "secret"),
    "unknown name in the look-up": ({"look_up": {"url": "/{id}"}}, "id"),
    "look-up without address": ({"look_up": {}}, "url"),
    "look-up with a success path alone": ({"look_up": {"url": "/", "success_path": "ok"}}, "success_path"),
    "look-up with a worth in words": ({"look_up": {"url": "/", "authoritative": "yes"}}, "authoritative"),
    "look-up with a wait below 0": ({"look_up": {"url": "/", "missing_after_s": -1}}, "missing_after_s"),
    "look-up with a wait that is no number": ({"look_up": {"url": "/", "missing_after_s": "x"}}, "missing_after_s"),
    "status with two outcomes": ({"statuses": {"permanent": [400], "transient": [400]}}, "statuses.transient"),
    "code with two outcomes": (
        {"code_path": "c", "codes": {"permanent": ["A"], "transient": ["B", "A"]}},
        "codes.transient",
    ),
    "codes without a place": ({"codes": {"permanent": ["NO_ROUTE"]}}, "code_path"),
    "look-up with a status of both kinds": ({"look_up": {"url": "/", "missing": [200]}}, "look_up.missing"),
    "path with brackets": ({"id_path": "messages[0].id"}, "messages.0.id"),
    "path of JSONPath": ({"success_path": "$.ok", "success_values": [True]}, "success_path"),
    "path of a JSON pointer": ({"code_path": "/errors/0/code"}, "code_path"),
    "path with a blank": ({"error_path": "error.message "}, "error_path"),
    "path with an empty name": ({"id_path": "data..id"}, "id_path"),
    "path of the look-up with brackets": ({"look_up": {"url": "/", "id_path": "m[*].id"}}, "look_up.id_path"),
    "dollar before braces": ({"fields": {"to": "${recipient}"}}, "dollar"),
    "method in lower case": ({"method": "post"}, "must be one of POST, PUT, GET"),
    "unknown setting of the look-up": ({"look_up": {"url": "/", "lost": [404]}}, "lost"),
}


@pytest.mark.parametrize(("settings", "named"), WRONG.values(), ids=WRONG)
def test_wrong_setting_is_a_fault_that_names_it(settings: dict[str, Any], named: str) -> None:
    assert named in faults(provider(**settings))


def test_faults_of_a_shape_are_reported_together() -> None:
    shown = faults(provider(statuses={"fatal": [1]}, codes={"fatal": ["x"]}, fields={"a": "{b}"}, method="GET"))
    for part in ("statuses.fatal", "codes.fatal", "{b}", "encoding"):
        assert part in shown


@pytest.mark.parametrize(
    "settings",
    [
        {"unknown": 1},
        {"server_errors": "permanent"},
        {"server_errors": ["transient"]},
        {"look_up": "false"},
        {"look_up": 1},
        {"missing_after_s": float("nan")},
        {"missing_after_s": 1e9},
        {"missing_after_s": "5"},
        {"missing_after_s": -1},
        {"missing_after_s": True},
    ],
)
def test_simulated_provider_refuses_settings_that_it_does_not_know(settings: dict[str, Any]) -> None:
    assert next(iter(settings)) in faults(provider("simulated", **settings))


def test_adapter_that_is_not_known_is_a_fault_that_lists_those_there_are() -> None:
    with pytest.raises(ConfigError) as refused:
        dialect_of(provider("carrier-pigeon"))
    ((key, text),) = refused.value.faults
    assert key == "provider[alpha].adapter"
    assert all(name in text for name in CATALOGUE)


@pytest.mark.parametrize(
    ("fields", "document"),
    [
        ({}, {}),
        ({"a": 1, "b": "x"}, {"a": 1, "b": "x"}),
        ({"a.b.c": 1, "a.b.d": 2, "a.e": 3}, {"a": {"b": {"c": 1, "d": 2}, "e": 3}}),
        ({"to[]": "x"}, {"to": ["x"]}),
        ({"a.to[]": "x", "a.n": 1}, {"a": {"to": ["x"], "n": 1}}),
    ],
)
def test_dotted_keys_make_nested_objects(fields: dict[str, Any], document: dict[str, Any]) -> None:
    assert plant(fields) == document


def test_every_outcome_has_one_word_in_the_file() -> None:
    assert len(set(OUTCOMES.values())) == len(OUTCOMES) == 6
