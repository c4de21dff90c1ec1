"""A provider's URL and settings as people may see them."""

from typing import Any

import pytest

from messaging.runtime.providers_file import Provider, as_table
from messaging.runtime.secret import mask_address

URLS = {
    "https://h/a": "https://h/a",
    "https://h:8080/x?": "https://h:8080/x?",
    "https://[::1]:80/x": "https://[::1]:80/x",
    "https://user:hush@h/a": "https://****@h/a",
    "https://hush@h/a": "https://****@h/a",
    "https://us@er:hush@h/a": "https://****@h/a",
    "https://user:hu/sh@h/a": "https://****@h/a",
    "https://h/a?key=hush&x={digits}&hush#f": "https://h/a?key=****&x={digits}&****#f",
    "https://h/a?a=hush?b=hush": "https://h/a?a=****",
    "https://{secret.user}:{secret.password}@h/?k={secret.key}": "https://{secret.user}:{secret.password}@h/?k={secret.key}",
    "https://h/?k=hush-{secret.key}": "https://h/?k=****",
    "/status/{message_id}?key=hush": "/status/{message_id}?key=****",
    "": "",
}


@pytest.mark.parametrize(("url", "shown"), URLS.items(), ids=URLS)
def test_credentials_and_query_of_a_url_are_masked(url: str, shown: str) -> None:
    assert mask_address(url) == shown


SETTINGS: dict[str, tuple[Any, Any]] = {
    "headers": ({"X-Api-Key": "hush", "accept": "x"}, {"X-Api-Key": "****", "accept": "x"}),
    "fields": (
        {"password": "hush", "pin": 4711, "a": [{"access_token": "hush"}], "key": "{secret.key}", "text": "{body}"},
        {"password": "****", "pin": "****", "a": [{"access_token": "****"}], "key": "{secret.key}", "text": "{body}"},
    ),
    "basic_auth": ({"user": "u", "password": "hush"}, {"user": "u", "password": "****"}),
    "look_up": ({"url": "/x?a=hush"}, {"url": "/x?a=****"}),
    "callback": ("https://u:hush@h/", "https://****@h/"),
    "empty_is_success": (True, True),
}


@pytest.mark.parametrize(("name", "pair"), SETTINGS.items(), ids=SETTINGS)
def test_what_is_probably_a_key_in_the_settings_is_masked(name: str, pair: tuple[Any, Any]) -> None:
    value, shown = pair
    provider = Provider("a", "http-json", "https://u:hush@h/", settings={name: value})
    table = as_table(provider)
    assert table["settings"] == {name: shown}
    assert table["url"] == "https://****@h/"
    assert "hush" not in repr(provider)
    assert provider.settings == {name: value}, "only what is shown is masked"
