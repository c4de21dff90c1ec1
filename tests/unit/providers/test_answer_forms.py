"""Every form in which providers say yes and no: JSON, text, XML, a bare number, nothing at all, and other charsets."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.errors import ConfigError
from messaging.runtime.providers_file import Provider
from providers.base import ACCEPTED, AMBIGUOUS, PERMANENT, PROVIDER_FAULT, THROTTLED, TRANSIENT, Answer, Outcome
from providers.http_generic import HttpGeneric
from providers.xml_body import read_xml, xml_text_at


def dialect(toml: str) -> HttpGeneric:
    return HttpGeneric(Provider("a", "http-json", "https://h/send", settings=tomllib.loads(toml)))


def read(toml: str, status: int, body: bytes | str, content_type: str = "") -> Outcome:
    data = body.encode() if isinstance(body, str) else body
    headers = {"content-type": content_type} if content_type else {}
    return dialect(toml).read(Answer(status, headers, data, 0.0))


TEXT_IDS = 'answer = "text"\nid_match = "^ID: ?([0-9]+)"\ncode_match = "^ERR:? ?([0-9]+)"\ncodes = {permanent = [105]}'
TEXT_OK = 'answer = "text"\nsuccess_match = "(?i)^ok"\nfailure_match = "^(ERROR|NO)"'
TEXT_NO = 'answer = "text"\nsuccess_match = "OK"\ncode_match = "(?m)^no: (.*)"\ncodes = {permanent = ["too bad"]}'
ONLY_202 = 'answer = "status"\nstatuses = {accepted = [202], ambiguous = ["2xx"]}'
XML = """
answer = "xml"
success_path = "response.status"
success_values = ["ok"]
id_path = "response.message.@id"
code_path = "response.error.code"
error_path = "response.error.text"
codes = {permanent = ["12"]}
"""
YES_XML = '<?xml version="1.0"?><s:response xmlns:s="urn:x"><status> ok </status><message id="p-9"/></s:response>'
YES_UTF_16 = YES_XML.replace("?>", ' encoding="UTF-16"?>').encode("utf-16")

ANSWERS: dict[str, tuple[str, int, bytes | str, int, str]] = {
    # An empty body
    "204 is unclear unless the settings say otherwise": ("", 204, b"", AMBIGUOUS, ""),
    "204": ("empty_is_success = true", 204, b"", ACCEPTED, ""),
    "202 with blanks": ("empty_is_success = true", 202, b" \r\n", ACCEPTED, ""),
    "200 with nothing, though a value is wanted of a document": (
        'empty_is_success = true\nsuccess_path = "ok"\nsuccess_values = [true]',
        200,
        b"",
        ACCEPTED,
        "",
    ),
    "a document without that value": (
        'empty_is_success = true\nsuccess_path = "ok"\nsuccess_values = [true]',
        200,
        b"{}",
        AMBIGUOUS,
        "",
    ),
    "a no without a body": ("empty_is_success = true", 403, b"", PROVIDER_FAULT, ""),
    # The status alone
    "status": ('answer = "status"', 202, b"<html>whatever", ACCEPTED, ""),
    "status with an id": ('answer = "status"\nid_match = "id=(\\\\w+)"', 200, b"id=7", ACCEPTED, "7"),
    "status that says no": ('answer = "status"', 400, b"", PERMANENT, ""),
    "only this status": (
        'answer = "status"\nstatuses = {accepted = [202], ambiguous = ["2xx"]}',
        200,
        b"",
        AMBIGUOUS,
        "",
    ),
    "this one": (ONLY_202, 202, b"", ACCEPTED, ""),
    "a class": ('statuses = {transient = ["5xx"]}', 599, b"", TRANSIENT, ""),
    "a number beats its class": ('statuses = {transient = ["5xx"], throttled = [503]}', 503, b"", THROTTLED, ""),
    # Text
    "OK": (TEXT_OK, 200, "OK", ACCEPTED, ""),
    "OK and more": (TEXT_OK, 200, "ok; queued\n", ACCEPTED, ""),
    "a no": (TEXT_OK, 200, "ERROR: no credit", PROVIDER_FAULT, ""),
    "a no that means something else": (f'{TEXT_OK}\nfailure_means = "permanent"', 200, "NO such number", PERMANENT, ""),
    "neither": (TEXT_OK, 200, "perhaps", AMBIGUOUS, ""),
    "nothing": (TEXT_OK, 200, "", AMBIGUOUS, ""),
    "nothing, which is a yes": (f"{TEXT_OK}\nempty_is_success = true", 200, "", ACCEPTED, ""),
    "ID: 1": (TEXT_IDS, 200, "ID: 1", ACCEPTED, "1"),
    "a code": (TEXT_IDS, 200, "ERR: 105 invalid number", PERMANENT, ""),
    "a code that nobody knows": (TEXT_IDS, 200, "ERR 7", AMBIGUOUS, ""),
    "a bare number": ('answer = "text"\nid_match = "^\\\\d+$"', 200, "123456", ACCEPTED, "123456"),
    "a bare number below zero": ('answer = "text"\nid_match = "^\\\\d+$"', 200, "-4", AMBIGUOUS, ""),
    # JSON that is no object
    "a JSON number": ('id_path = "$"', 200, "123456", ACCEPTED, "123456"),
    "a JSON text": ('success_path = "$"\nsuccess_values = ["OK"]', 200, '"OK"', ACCEPTED, ""),
    "a JSON truth": ('success_path = "$"\nsuccess_values = [true]', 200, "true", ACCEPTED, ""),
    "a JSON lie": ('success_path = "$"\nsuccess_values = [true]', 200, "false", AMBIGUOUS, ""),
    "a JSON no": ('failure_path = "$"\nfailure_values = [false]', 200, "false", PROVIDER_FAULT, ""),
    "a no within JSON": ('failure_path = "ok"\nfailure_values = [false, 0]', 200, '{"ok": 0}', PROVIDER_FAULT, ""),
    "JSON by a pattern": ('success_match = "\\"queued\\""', 200, '{"state": "queued"}', ACCEPTED, ""),
    "JSON without the pattern": ('success_match = "\\"queued\\""', 200, '{"state": "lost"}', AMBIGUOUS, ""),
    # Codes as the file writes them
    "a code with blanks and signs": (
        'code_path = "error"\ncodes = {permanent = ["Bad Number!"]}',
        500,
        '{"error": "Bad Number!"}',
        PERMANENT,
        "",
    ),
    "a code of text": (TEXT_NO, 200, "no: too bad", PERMANENT, ""),
    # XML
    "XML": (XML, 200, YES_XML, ACCEPTED, "p-9"),
    "XML in another encoding": (
        XML,
        200,
        YES_XML.replace("?>", ' encoding="UTF-16"?>').encode("utf-16"),
        ACCEPTED,
        "p-9",
    ),
    "XML that says no": (
        XML,
        200,
        "<response><status>no</status><error><code>12</code></error></response>",
        PERMANENT,
        "",
    ),
    "XML of another kind": (XML, 200, "<html><body>ok</body></html>", AMBIGUOUS, ""),
    "XML that is cut off": (XML, 200, YES_XML[:-5], AMBIGUOUS, ""),
    "XML with entities": (XML, 200, f'<!DOCTYPE r [<!ENTITY a "ok">]>{YES_XML[21:]}', AMBIGUOUS, ""),
    "no XML": (XML, 200, "OK", AMBIGUOUS, ""),
}


@pytest.mark.parametrize(("toml", "status", "body", "kind", "found"), ANSWERS.values(), ids=ANSWERS)
def test_answer_means_what_the_settings_say(toml: str, status: int, body: bytes | str, kind: int, found: str) -> None:
    outcome = read(toml, status, body)
    assert (outcome.kind, outcome.provider_message_id) == (kind, found)


NAME_YES = 'success_path = "état"\nsuccess_values = ["envoyé"]\n'
LATIN = '{"état": "envoyé"}'.encode("latin-1")
CHARSETS: dict[str, tuple[str, bytes, str, int]] = {
    "by its header": ("", LATIN, "application/json; charset=ISO-8859-1", ACCEPTED),
    "in quotes": ("", LATIN, 'application/json; Charset="latin1"', ACCEPTED),
    "by the settings": ('charset = "latin-1"\n', LATIN, "", ACCEPTED),
    "by the settings, against the header": ('charset = "cp1252"\n', LATIN, "application/json; charset=utf-8", ACCEPTED),
    "UTF-16": ("", '{"état": "envoyé"}'.encode("utf-16"), "", ACCEPTED),
    "UTF-8 with a mark": ("", b"\xef\xbb\xbf" + '{"état": "envoyé"}'.encode(), "", ACCEPTED),
    "unnamed": ("", LATIN, "", AMBIGUOUS),
    "unknown": ("", LATIN, "application/json; charset=klingon", AMBIGUOUS),
    "no charset at all": ("", LATIN, "application/json; charset=base64", AMBIGUOUS),
    "a lie": ("", LATIN, "application/json; charset=utf-16", AMBIGUOUS),
}


@pytest.mark.parametrize(("toml", "body", "content_type", "kind"), CHARSETS.values(), ids=CHARSETS)
def test_charset_is_that_of_the_settings_or_of_the_answer(toml: str, body: bytes, content_type: str, kind: int) -> None:
    assert read(toml + NAME_YES, 200, body, content_type).kind == kind


def test_text_in_latin_1_is_matched() -> None:
    assert (
        read('answer = "text"\ncharset = "latin-1"\nsuccess_match = "envoyé"', 200, "envoyé".encode("latin-1")).kind
        == ACCEPTED
    )


WRONG: dict[str, str] = {
    'answer = "html"': "answer",
    'answer = "text"': "answer",
    'answer = "xml"': "answer",
    'answer = "text"\nsuccess_match = "x"\nid_path = "id"': "id_path",
    'answer = "status"\nerror_path = "x"': "error_path",
    'success_match = "("': "success_match",
    'id_match = "x*"': "id_match",
    'failure_match = "(a+)+$"': "failure_match",
    'failure_match = "(?:x{1,9})*y"': "failure_match",
    'code_match = "(a|b+)*c"': "code_match",
    'charset = "base64"': "charset",
    'charset = "klingon"': "charset",
    'charset = "idna"': "charset",
    'charset = "undefined"': "charset",
    'charset = "a\\u0000"': "charset",
    'failure_path = "ok"': "failure_path",
    "failure_values = [0]": "failure_path",
    'success_path = "ok"': "success_path",
    'success_values = ["ok"]': "success_path",
    'failure_means = "accepted"': "failure_means",
    'empty_is_success = "yes"': "empty_is_success",
    'id_path = ["id"]': "id_path",
}


@pytest.mark.parametrize(("toml", "key"), WRONG.items(), ids=WRONG)
def test_form_that_can_say_nothing_is_refused(toml: str, key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        dialect(toml)
    assert key in str(refused.value)


# XML
DOCUMENT = '<a x="1"><b>one</b><b y="2">two<c/></b>three</a>'
XML_PATHS = {
    "a": "three",
    "a.@x": "1",
    "a.b": "one",
    "a.b.1": "two",
    "a.b.1.@y": "2",
    "a.b.1.c": "",
    "a.b.2": "",
    "a.b.99999999999999": "",
    "a.z": "",
    "b": "",
    "": "",
    "@x": "",
    "a.b.1.0.0": "two",
}


@pytest.mark.parametrize(("path", "text"), XML_PATHS.items(), ids=XML_PATHS)
def test_text_at_a_path_of_xml(path: str, text: str) -> None:
    document = read_xml(DOCUMENT)
    assert document is not None
    assert xml_text_at(document, path) == text


BOMB = (
    '<!DOCTYPE a [<!ENTITY a "'
    + "x" * 1000
    + '">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9))
)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<a>",
        "</a>",
        "<a" * 9,
        "<a>" * 20_000,
        "<a>" * 99 + "</a>" * 99,
        f"{BOMB}]><a>&j;</a>",
        b"\xff\xfe\0",
        "\0",
    ],
    ids=range(9),
)
def test_xml_that_is_none_or_wants_too_much_is_nothing(body: bytes | str) -> None:
    assert read_xml(body) is None


_FORMS = ["", XML, TEXT_OK, TEXT_IDS, 'answer = "status"', "empty_is_success = true", 'charset = "utf-16"']
_PARTS = ["<a>", "</a>", "<response>", "&x;", "<!DOCTYPE a>", "ok", "<status>", "é", "OK", "{", "0"]
_BODIES = (
    st.binary(max_size=60)
    | st.text().map(lambda text: text.encode(errors="replace"))
    | st.lists(st.sampled_from(_PARTS)).map(lambda parts: "".join(parts).encode())
)
_TYPES = st.text(max_size=20) | st.text(max_size=9).map("charset={}".format)


@given(toml=st.sampled_from(_FORMS), status=st.integers(100, 599), body=_BODIES, kind=_TYPES)
def test_no_answer_breaks_the_reading_in_any_form(toml: str, status: int, body: bytes, kind: str) -> None:
    outcome = read(toml, status, body, kind)
    assert outcome.kind
    if status // 100 in {3, 4} and status not in {408, 409}:
        assert outcome.kind not in {ACCEPTED, AMBIGUOUS}, "a no that nothing else says otherwise"
