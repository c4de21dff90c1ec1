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
