"""What stands in the providers file is sent as it stands there, or refused with its key; nothing in between."""

import json
import tomllib
from typing import Any

import attrs
import pytest

from messaging.errors import ConfigError
from messaging.runtime.providers_file import Provider
from messaging.runtime.secret import Secret
from providers.base import Request
from providers.http_generic import HttpGeneric
from tests.contract.adapters.kit import SUBMISSION, TEXT

KEY = "s3/+cret"
SECRETS = {"key": Secret(KEY), "wrapped": Secret("YWJj\nZGVm"), "foreign": Secret("é")}


def dialect(toml: str, url: str = "https://h/send", sender: str = "ACME") -> HttpGeneric:
    return HttpGeneric(
        Provider("a", "http-json", url, sender=sender, settings=tomllib.loads(toml), secrets=dict(SECRETS))
    )


def request(toml: str, url: str = "https://h/send") -> Request:
    return dialect(toml, url).request(SUBMISSION)


def faults(toml: str, url: str = "https://h/send", sender: str = "ACME") -> dict[str, str]:
    with pytest.raises(ConfigError) as refused:
        dialect(toml, url, sender)
    assert KEY not in str(refused.value)
    return dict(refused.value.faults)


# Types
DOCUMENTS: dict[str, tuple[str, Any]] = {
    "booleans": ("a = true\nb = false", {"a": True, "b": False}),
    "numbers": ("a = 1\nb = -2.5", {"a": 1, "b": -2.5}),
    "text that looks like one": ('a = "true"\nb = "1"', {"a": "true", "b": "1"}),
    "lists": ('a = ["{digits}", "x", 1, true]', {"a": ["233201234567", "x", 1, True]}),
    "tables": ('a = {b = "{sender}", "c.d" = 1}', {"a": {"b": "ACME", "c": {"d": 1}}}),
    "lists of tables": ('a = [{to = "{digits}"}, {n = "{segments}"}]', {"a": [{"to": "233201234567"}, {"n": 2}]}),
    "a list of objects by its path": (
        '"m[].to" = "{digits}"\n"m[].text" = "{body}"',
        {"m": [{"to": "233201234567", "text": TEXT}]},
    ),
    "the same by its number": ('"m[0].to" = "{digits}"\n"m[].n" = 1', {"m": [{"to": "233201234567", "n": 1}]}),
    "several items": ('"m[1].n" = 2\n"m[0].n" = 1', {"m": [{"n": 1}, {"n": 2}]}),
    "lists in lists": ('"m[][1]" = 2\n"m[0][0].x" = 1', {"m": [[{"x": 1}, 2]]}),
    "deep": ('"a.b[].c.d[]" = "{sender}"', {"a": {"b": [{"c": {"d": ["ACME"]}}]}}),
    "typed names": (
        'a = "{segments}"\nb = "{attempt}"\nc = "{validity_s}"\nd = "{is_unicode}"\ne = "{unicode}"\nf = "{segments} "',
        {"a": 2, "b": 3, "c": 599, "d": True, "e": "true", "f": "2 "},
    ),
    "braces themselves": ('a = "{{body}} {{"\nb = "{{{digits}}}"', {"a": "{body} {", "b": "{233201234567}"}),
    "secrets": ('a = "Key {secret.key}"', {"a": f"Key {KEY}"}),
}


@pytest.mark.parametrize(("toml", "document"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_document_has_the_types_of_the_file(toml: str, document: Any) -> None:
    assert json.loads(request(f"[fields]\n{toml}").body) == document


FORMS = {
    "booleans and numbers as JSON spells them": ("a = true\nb = 1\nc = 1.5", "a=true&b=1&c=1.5"),
    "a list is the same name again": ('a = ["{digits}", "x", 2]', "a=233201234567&a=x&a=2"),
    "names as they are": ('"a.b[]" = "{segments}"\n"c[d]" = 1', "a.b%5B%5D=2&c%5Bd%5D=1"),
}


@pytest.mark.parametrize(("toml", "body"), FORMS.values(), ids=FORMS)
def test_form_and_query_have_the_values_of_the_file(toml: str, body: str) -> None:
    assert request(f'encoding = "form"\n[fields]\n{toml}').body.decode() == body
    assert request(f'encoding = "query"\n[fields]\n{toml}').url == f"https://h/send?{body}"


@pytest.mark.parametrize("encoding", ["form", "query"])
@pytest.mark.parametrize("toml", ["a = {b = 1}", "a = [[1]]", "a = [{b = 1}]"])
def test_form_and_query_refuse_what_they_cannot_hold(encoding: str, toml: str) -> None:
    assert "cannot nest" in faults(f'encoding = "{encoding}"\n[fields]\n{toml}')["provider[a].settings.fields.a"]


WRONG_FIELDS = {
    "a = 1979-05-27": "fields.a",
    "a = [07:32:00]": "fields.a",
    "a = inf": "fields.a",
    "a = nan": "fields.a",
    'a = 1\n"a.b" = 2': "fields",
    '"a.b" = 2\na = 1': "fields",
    '"a[]" = 1\n"a[0]" = 2': "fields",
    '"a[]" = 1\na = 2': "fields",
    '"a[].b" = 1\n"a.b" = 2': "fields",
    '"a[1]" = 1': "fields",
    '"a..b" = 1': "fields",
    '"[]" = 1': "fields",
    '"a[x]" = 1': "fields",
    '"a[]b" = 1': "fields",
    '"a[0" = 1': "fields",
    '"" = 1': "fields",
    'a = {b = 1, "b.c" = 2}': "fields.a",
    '"{digits}" = 1': "fields.{digits}",
}


@pytest.mark.parametrize(("toml", "key"), WRONG_FIELDS.items(), ids=WRONG_FIELDS)
def test_fields_that_contradict_each_other_or_are_none_are_refused(toml: str, key: str) -> None:
    assert f"provider[a].settings.{key}" in faults(f"[fields]\n{toml}")


# Braces
BAD_BRACES = [
    "{body:>2000000000}",
    "{body:{segments}}",
    "{body!r}",
    "{body.__class__}",
    "{body[0]}",
    "{0}",
    "{}",
    "{",
    "}",
    "{digits",
    "{phone}",
    "{secret}",
    "{secret.}",
    "{secret.other}",
    "{secret.key.x}",
    "{secret.key:>9}",
    "{secret.key!r}",
    "{ digits }",
    "{digits }",
]


@pytest.mark.parametrize("text", BAD_BRACES)
def test_only_plain_names_may_stand_in_braces_wherever_they_are_filled_in(text: str) -> None:
    quoted = json.dumps(text)
    places = {
        f"fields = {{a = {quoted}}}": "settings.fields.a",
        f"fields = {{a = [{quoted}]}}": "settings.fields.a",
        f"fields = {{a = {{b = {quoted}}}}}": "settings.fields.a",
        f"headers = {{a = {quoted}}}": "settings.headers.a",
        f'basic_auth = {{user = "u", password = {quoted}}}': "settings.basic_auth.password",
        f"basic_auth = {{user = {quoted}}}": "settings.basic_auth.user",
        f"look_up = {{url = {json.dumps('/' + text)}}}": "settings.look_up.url",
    }
    for toml, key in places.items():
        assert f"provider[a].{key}" in faults(toml), toml
    assert "provider[a].url" in faults("", f"https://h/{text}")
    assert "provider[a].url" in faults('encoding = "query"', f"https://h/send?x={text}")


@pytest.mark.parametrize("setting", ["id_path", "success_path", "code_path", "error_path", "failure_path"])
def test_braces_where_none_are_filled_in_are_refused(setting: str) -> None:
    toml = f'{setting} = "{{message_id}}"\nsuccess_values = ["x"]\nfailure_values = ["x"]'
    assert f"provider[a].settings.{setting}" in faults(toml)


def test_codes_and_look_ups_with_braces_are_refused() -> None:
    assert "provider[a].settings.codes.permanent" in faults('codes = {permanent = ["{secret.key}"]}')
    assert "provider[a].settings.look_up.id_path" in faults('look_up = {url = "/", id_path = "{message_id}"}')


@pytest.mark.parametrize("setting", ["success_values", "failure_values"])
def test_values_with_braces_are_refused(setting: str) -> None:
    toml = f'{setting} = ["{{secret.key}}"]\nsuccess_path = "x"\nfailure_path = "x"'
    assert f"provider[a].settings.{setting}" in faults(toml)


# The URL
def test_secrets_and_values_in_the_url_are_filled_in_and_quoted() -> None:
    url = "https://h/{digits}/send?key={secret.key}&text={body}"
    assert request("fields = {}", url).url == (
        "https://h/233201234567/send?key=s3%2F%2Bcret&text=Your%20code%20is%204711%2C%20%C3%A9%20%E2%82%AC%20%F0%9F%91%8B"
    )


def test_urls_own_query_is_kept_and_a_field_of_the_same_name_replaces_it() -> None:
    toml = 'encoding = "query"\nmethod = "GET"\nfields = {to = "{digits}"}'
    url = "https://h/send?account=7&to=1&x&key={secret.key}&t%6F=2#part"
    assert request(toml, url).url == "https://h/send?account=7&x&key=s3%2F%2Bcret&to=233201234567"


@pytest.mark.parametrize("url", ["https://{digits}/x", "https://{sender}@h/", "https://h:{segments}/"])
def test_value_of_a_message_cannot_choose_the_host(url: str) -> None:
    assert "behind the host" in faults("", url)["provider[a].url"]


@pytest.mark.parametrize("value", [".", ".."])
def test_value_that_is_a_folder_makes_no_request(value: str) -> None:
    with pytest.raises(ValueError, match="folder"):
        dialect("", "https://h/{sender}/x", value).request(SUBMISSION)


def test_look_up_knows_secrets_too() -> None:
    one = dialect('look_up = {url = "/x/{message_id}?key={secret.key}"}', "https://h/send?key={secret.key}")
    assert one.look_up_request("a/b", "00-t").url == "https://h/x/a%2Fb?key=s3%2F%2Bcret"


@pytest.mark.parametrize(
    ("base", "asked"),
    [
        ("https://u:p@h:8443/a/b?c=1#d", "https://u:p@h:8443/s/m"),
        ("https://h", "https://h/s/m"),
        ("https://h?k={secret.key}", "https://h/s/m"),
        ("https://{secret.key}:x@h/%7Bdigits%7D/a", "https://s3%2F%2Bcret:x@h/s/m"),
    ],
)
def test_look_up_with_a_path_goes_to_the_providers_host(base: str, asked: str) -> None:
    assert dialect('look_up = {url = "/s/{message_id}"}', base).look_up_request("m", "t").url == asked


@pytest.mark.parametrize("url", ["ftp://h/x", "x", "//h/x"])
def test_look_up_that_goes_nowhere_is_refused(url: str) -> None:
    if url.startswith("//"):
        assert dialect(f'look_up = {{url = "{url}"}}').look_up_request("m", "t").url == "https://h/x"
    else:
        assert "provider[a].settings.look_up.url" in faults(f'look_up = {{url = "{url}"}}')


# Headers
WRONG_HEADERS = {
    'a = "{secret.wrapped}"': "a",
    'a = "Bearer {secret.foreign}"': "a",
    'a = "Café"': "a",
    'a = "x\\ny"': "a",
    'a = "x\\u0000"': "a",
    '"x y" = "1"': "x y",
    '"x:" = "1"': "x:",
    '"é" = "1"': "é",
    '"" = "1"': "",
    'Content-Length = "5"': "Content-Length",
    'Transfer-Encoding = "chunked"': "Transfer-Encoding",
    'x = "1"\nX = "2"': "X",
}


@pytest.mark.parametrize(("toml", "name"), WRONG_HEADERS.items(), ids=WRONG_HEADERS)
def test_header_that_cannot_be_sent_is_refused_at_the_start(toml: str, name: str) -> None:
    assert f"provider[a].settings.headers.{name}" in faults(f"[headers]\n{toml}")


def test_header_with_a_default_sender_that_cannot_be_sent_is_refused() -> None:
    assert "ASCII" in faults('headers = {from = "{sender}"}', sender="Café")["provider[a].settings.headers.from"]


def test_header_may_be_a_number_or_a_boolean() -> None:
    headers = request("headers = {a = 1, b = true}").headers
    assert (headers["a"], headers["b"]) == ("1", "true")


@pytest.mark.parametrize("body", [".", ".."])
def test_text_of_dots_means_a_folder_in_a_path_only(body: str) -> None:
    dots = attrs.evolve(SUBMISSION, body=body)
    assert dialect("", "https://h/s?text={body}").request(dots).url == f"https://h/s?text={body}"
    with pytest.raises(ValueError, match="folder"):
        dialect("", "https://h/{body}").request(dots)


# Basic authentication
def test_basic_auth_is_the_header_that_it_makes() -> None:
    toml = 'basic_auth = {user = "AC1", password = "{secret.key}"}\nlook_up = {url = "/{message_id}"}'
    expected = "Basic QUMxOnMzLytjcmV0"
    assert request(toml).headers["authorization"] == expected
    assert dialect(toml).look_up_request("m", "t").headers["authorization"] == expected


TWICE = {
    'basic_auth = {user = "a"}\nheaders = {Authorization = "x"}': ("https://h/", "basic_auth"),
    'basic_auth = {user = "a"}': ("https://u:p@h/", "basic_auth"),
    'headers = {authorization = "x"}': ("https://u:p@h/", "headers"),
    'basic_auth = {user = "a:b"}': ("https://h/", "basic_auth.user"),
    'basic_auth = {user = "a", password = "{secret.wrapped}"}': ("https://h/", "basic_auth"),
}


@pytest.mark.parametrize(("toml", "where"), TWICE.items(), ids=TWICE)
def test_credentials_that_contradict_each_other_are_refused(toml: str, where: tuple[str, str]) -> None:
    url, key = where
    assert f"provider[a].settings.{key}" in faults(toml, url)


# Lists of numbers
@pytest.mark.parametrize("status", ["0", "99", "600", "1000", "-200", "true", "200.5", '"2xy"', '"9xx"', '"x"'])
def test_status_that_is_none_is_refused_in_every_list(status: str) -> None:
    for toml in (
        f"statuses = {{permanent = [{status}]}}",
        f'look_up = {{url = "/", found = [{status}]}}',
        f'look_up = {{url = "/", missing = [{status}]}}',
    ):
        assert any("status" in text for text in faults(toml).values()), toml


@pytest.mark.parametrize("values", ["[[1]]", "[{a = 1}]", "[1979-05-27]", "5", '"x"'])
def test_value_that_is_no_single_one_is_refused_in_every_list(values: str) -> None:
    for toml in (f'success_path = "a"\nsuccess_values = {values}', f"codes = {{permanent = {values}}}"):
        assert faults(toml)
