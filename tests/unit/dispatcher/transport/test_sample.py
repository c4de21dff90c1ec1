"""A provider that could never get a message, or never know it again, is refused at the start."""

import tomllib

import pytest

from dispatcher.transport.sample import faults_of_requests
from messaging.runtime.providers_file import Provider
from providers.http_generic import HttpGeneric

WITH_ID = 'fields = {to = "{digits}", text = "{body}", ref = "{message_id}"}\n'
LACKING = {
    'fields = {text = "{body}"}': ("settings", "without the recipient"),
    'fields = {to = "<recipient>", text = "{body}"}': ("settings", "without the recipient"),
    'fields = {to = "{{recipient}}", text = "{body}"}': ("settings", "without the recipient"),
    'fields = {to = "{recipient}"}': ("settings", "without the text"),
    'fields = {to = "{recipient}", text = "Hello"}': ("settings", "without the text"),
    'fields = {to = "{national}"}\nheaders = {x-text = "{body}"}': ("settings.headers.x-text", "only some"),
    WITH_ID + 'look_up = {url = "/status"}': ("settings.look_up.url", "asks about no message"),
    'fields = {to = "{digits}", text = "{body}"}\nlook_up = {url = "/status/{message_id}"}': (
        "settings.look_up",
        "never gets",
    ),
}
WHOLE = [
    "",
    'fields = {to = "{national}", text = "{body}"}',
    'encoding = "form"\nfields = {Body = "<b>{body}</b>", To = "+{digits}"}',
    WITH_ID + 'look_up = {url = "/status?ref={message_id}"}',
]


def faults(toml: str, url: str = "https://h/send") -> list[tuple[str, str]]:
    return list(faults_of_requests(HttpGeneric(Provider("a", "http-json", url, settings=tomllib.loads(toml)))))


@pytest.mark.parametrize(("toml", "told"), LACKING.items(), ids=LACKING)
def test_settings_without_what_every_request_needs_are_refused(toml: str, told: tuple[str, str]) -> None:
    ((key, text),) = faults(toml)
    assert key == told[0]
    assert told[1] in text


@pytest.mark.parametrize("toml", WHOLE)
def test_settings_that_name_it_anywhere_are_taken(toml: str) -> None:
    assert not faults(toml)


def test_all_of_a_message_may_stand_in_the_address() -> None:
    url = "https://h/{recipient}?text={body}"
    assert not faults('method = "GET"\nencoding = "query"\nfields = {}', url)


_ODD = [
    "http://[::1",
    "http://u:hush@[::1/",
    "http://[zz]",
    "http://[[::1]]",
    "http://h]",
    "http://h\x07",
    "http://h\n",
    "http://h\u202e",
    "http://\ud800",
    "http://h/\x7f",
    "http:// h",
    "http://h:99999",
    "http://h:8x",
    "http://h:-1",
    "http://:80",
    "http://@",
]


@pytest.mark.parametrize("odd", _ODD, ids=ascii)
@pytest.mark.parametrize("place", ["url", "settings.look_up.url"])
def test_url_that_cannot_be_called_is_a_fault_of_its_place_and_is_not_repeated(place: str, odd: str) -> None:
    settings: dict[str, object] = {"fields": {"to": "{recipient}", "text": "{body}", "id": "{message_id}"}}
    settings |= {"success_path": "ok", "success_values": ["1"]}
    if place != "url":
        settings["look_up"] = {"url": f"{odd}/{{message_id}}", "id_path": "id"}
    provider = Provider("a", "http-json", f"{odd}/" if place == "url" else "http://h/", settings=settings)
    faults = dict(faults_of_requests(HttpGeneric(provider)))
    assert place in faults
    assert all(sentence.isprintable() and "hush" not in sentence for sentence in faults.values())
