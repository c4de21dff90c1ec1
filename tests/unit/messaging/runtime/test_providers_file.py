import pathlib
import tomllib

import pytest

from messaging.errors import ConfigError
from messaging.runtime.providers_file import as_table, parse_providers, read_providers

GOOD = """
[[provider]]
name = "alpha"
adapter = "http-json"
url = "https://alpha.example/send"
rate_per_s = 20
charge = "segment"
timeout_s = 3
sender = "ACME"
settings = {encoding = "form", fields = {to = "{digits}"}}
[provider.secrets]
key = {env = "ALPHA_KEY"}

[[provider]]
name = "beta"
adapter = "simulated"
url = "http://127.0.0.1:9000"
enabled = false
"""
SECRET = "hunter2"


def parse(text: str, **environment: str) -> dict[str, str]:
    """Give the faults of a file; empty when there are none."""
    try:
        parse_providers(tomllib.loads(text), environment)
    except ConfigError as refused:
        return dict(refused.faults)
    return {}


def one(**lines: str) -> str:
    """Write a file of one provider, whose keys are TOML."""
    table = {"name": '"a"', "adapter": '"simulated"', "url": '"http://h"', **lines}
    return "[[provider]]\n" + "".join(f"{key} = {value}\n" for key, value in table.items() if value)


def test_file_is_read_in_its_order() -> None:
    alpha, beta = parse_providers(tomllib.loads(GOOD), {"ALPHA_KEY": SECRET})
    assert (alpha.name, alpha.rate_per_s, alpha.timeout_s, alpha.sender) == ("alpha", 20, 3.0, "ACME")
    assert alpha.settings == {"encoding": "form", "fields": {"to": "{digits}"}}
    assert alpha.secrets["key"].reveal() == SECRET
    assert (beta.enabled, beta.rate_per_s, beta.weight) == (False, 50, 1)


def test_cost_is_one_request_or_all_segments() -> None:
    alpha, beta = parse_providers(tomllib.loads(GOOD), {"ALPHA_KEY": SECRET})
    assert [alpha.cost(0), alpha.cost(1), alpha.cost(3)] == [1, 1, 3]
    assert [beta.cost(0), beta.cost(3)] == [1, 1]


def test_secret_is_masked_wherever_a_provider_is_shown() -> None:
    alpha, _ = parse_providers(tomllib.loads(GOOD), {"ALPHA_KEY": SECRET})
    for shown in (repr(alpha), str(alpha), str(as_table(alpha))):
        assert SECRET not in shown
    assert as_table(alpha)["secrets"] == {"key": "****"}


def test_secret_comes_from_a_file_without_its_line_end(tmp_path: pathlib.Path) -> None:
    tmp_path.joinpath("key").write_text(f"{SECRET}\n")
    text = one(secrets=f'{{key = {{file = "{tmp_path}/key"}}}}')
    (provider,) = parse_providers(tomllib.loads(text), {})
    assert provider.secrets["key"].reveal() == SECRET


SAVED = {
    "with a byte-order mark": b"\xef\xbb\xbf" + SECRET.encode(),
    "by an editor of another system": b"\xef\xbb\xbf" + SECRET.encode() + b"\r\n",
    "with blanks around it": b" \t" + SECRET.encode() + b" \n\n",
}


@pytest.mark.parametrize("data", SAVED.values(), ids=SAVED)
def test_what_an_editor_adds_to_a_key_file_is_no_part_of_the_key(data: bytes, tmp_path: pathlib.Path) -> None:
    tmp_path.joinpath("key").write_bytes(data)
    (provider,) = parse_providers(tomllib.loads(one(secrets=f'{{key = {{file = "{tmp_path}/key"}}}}')), {})
    assert provider.secrets["key"].reveal() == SECRET


UNUSABLE = {
    "UTF-16": (SECRET.encode("utf-16"), "is not UTF-8"),
    "UTF-16 without a mark": (SECRET.encode("utf-16-le"), "invisible character"),
    "Latin-1": ("é".encode("latin-1"), "is not UTF-8"),
    "empty": (b"", "is empty"),
    "blank": (b" \n", "is empty"),
    "base64 wrapped in lines": (b"aHVudGVy\nMg==\n", "line break"),
    "a zero-width space": ("hun\u200bter2".encode(), "invisible character"),
    "a mark in the middle": ("hun\ufeffter2".encode(), "invisible character"),
    "a hard blank": ("hunter\u00a02".encode(), "invisible character"),
    "a mark only": (b"\xef\xbb\xbf\n", "is empty"),
}


@pytest.mark.parametrize(("data", "says"), UNUSABLE.values(), ids=UNUSABLE)
def test_key_file_that_holds_no_text_is_a_fault(data: bytes, says: str, tmp_path: pathlib.Path) -> None:
    tmp_path.joinpath("key").write_bytes(data)
    faults = parse(one(secrets=f'{{key = {{file = "{tmp_path}/key"}}}}'))
    (text,) = faults.values()
    assert says in text
    assert SECRET not in text


def test_variable_that_is_no_text_is_a_fault() -> None:
    faults = parse(one(secrets='{key = {env = "KEY"}}'), KEY=b"\xff".decode(errors="surrogateescape"))
    assert "KEY is not UTF-8" in str(faults)


def test_who_does_not_call_a_provider_needs_none_of_its_keys() -> None:
    document = tomllib.loads(GOOD)
    for keys_of in ((), {"beta"}, {"[]"}):
        alpha, _ = parse_providers(document, {}, keys_of=keys_of)
        assert alpha.secrets["key"].reveal() == ""
    with pytest.raises(ConfigError, match="ALPHA_KEY"):
        parse_providers(document, {}, keys_of={"alpha"})
    wrong = tomllib.loads(GOOD.replace('{env = "ALPHA_KEY"}', '"open"'))
    with pytest.raises(ConfigError, match="this file must not contain secrets"):
        parse_providers(wrong, {}, keys_of=())


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        (f'"{SECRET}"', "this file must not contain secrets"),
        (f'{{value = "{SECRET}"}}', "this file must not contain secrets"),
        (f'{{env = "X", value = "{SECRET}"}}', "this file must not contain secrets"),
        ('{env = "UNSET"}', "UNSET is not set"),
        ('{env = "EMPTY"}', "EMPTY is not set"),
        ('{file = "/nowhere/key"}', "/nowhere/key cannot be read"),
    ],
)
def test_wrong_secret_is_named_and_not_shown(secret: str, says: str) -> None:
    faults = parse(one(secrets=f"{{key = {secret}}}"), X="x", EMPTY="")
    (key,) = faults
    assert "provider[a]" in key
    assert "secrets" in key
    assert "key" in key
    assert says in faults[key]
    assert SECRET not in str(faults)


WRONG = {
    "name": '"Alpha"',
    "adapter": "7",
    "url": '"ftp://h"',
    "rate_per_s": "0",
    "weight": "1.5",
    "priority": "-1",
    "enabled": '"true"',
    "draining": "1",
    "charge": '"message"',
    "timeout_s": '"10"',
    "max_in_flight": "0",
    "keepalive_s": "-1",
    "sender": "7",
    "settings": '"x"',
}


@pytest.mark.parametrize("key", WRONG)
def test_wrong_value_is_a_fault_with_its_key(key: str) -> None:
    (fault,) = parse(one(**{key: WRONG[key]}))
    assert fault.startswith("provider[")
    assert fault.endswith(f".{key}")


@pytest.mark.parametrize("key", ["name", "adapter", "url"])
def test_missing_key_is_a_fault(key: str) -> None:
    faults = parse(one(**{key: ""}))
    assert len(faults) == 1
    assert key in str(faults)


@pytest.mark.parametrize("key", ["timeout_s", "keepalive_s"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_number_that_is_none_is_a_fault(key: str, value: str) -> None:
    assert set(parse(one(**{key: value}))) == {f"provider[a].{key}"}


@pytest.mark.parametrize("sender", ["Twelve chars", "Café", "1234567890123456", "a+b", "x\\ny", "{secret.x}"])
def test_default_sender_that_no_network_takes_is_a_fault(sender: str) -> None:
    faults = parse(one(sender=f'"{sender}"'))
    assert set(faults) == {"provider[a].sender"}
    assert "no network takes it" in faults["provider[a].sender"]


@pytest.mark.parametrize("sender", ["", "MyShop", "Bar & Co", "12345", "+233201234567"])
def test_default_sender_of_a_usual_form_is_taken(sender: str) -> None:
    assert parse(one(sender=f'"{sender}"')) == {}


def test_unknown_key_is_a_fault_that_names_it() -> None:
    assert "rate" in str(parse(one(rate="5")))


def test_all_faults_of_all_providers_are_reported_at_once() -> None:
    text = one(rate_per_s='"x"', weight='"x"', rate="5", secrets='{k = "x"}') + one(name='"b"', url='""', priority="-1")
    text += one(name='"c"') + one(name='"c"')
    faults = parse("other = 1\n" + text)
    blamed = str(faults)
    for part in (
        "other",
        "provider[a].rate_per_s",
        "provider[a].weight",
        "extra fields found (rate)",
        "secrets",
        "provider[b].url",
        "provider[b].priority",
        "provider[c].name",
    ):
        assert part in blamed, part


def test_name_that_stands_twice_is_a_fault() -> None:
    assert parse(one() + one()) == {"provider[a].name": "is used twice"}


@pytest.mark.parametrize("text", ["", "provider = []", "provider = 1", "[provider]\nname = 'a'", "x = 1"])
def test_file_without_providers_is_a_fault(text: str) -> None:
    assert "provider" in parse(text)


@pytest.mark.parametrize("text", ["provider = [1]", "provider = ['a', 'b']"])
def test_provider_that_is_no_table_is_a_fault(text: str) -> None:
    assert "provider[0]" in str(parse(text))


def test_file_that_is_missing_or_no_toml_is_a_fault_of_its_setting(tmp_path: pathlib.Path) -> None:
    tmp_path.joinpath("bad.toml").write_text("[[provider")
    tmp_path.joinpath("binary.toml").write_bytes(b"\xff\xfe")
    for name in ("none.toml", "bad.toml", "binary.toml"):
        with pytest.raises(ConfigError) as refused:
            read_providers(tmp_path / name, {})
        ((key, text),) = refused.value.faults
        assert key == "SMSGW_PROVIDERS_FILE"
        assert name in text


UNREADABLE = {
    "UTF-16": GOOD.encode("utf-16"),
    "Latin-1": GOOD.replace("ACME", "Caf\u00e9").encode("latin-1"),
    "a number of thousands of digits": b"a = " + b"1" * 5000,
    "thousands of brackets": b"a = " + b"[" * 5000,
    "quotation marks of a word processor": GOOD.replace('"alpha"', "\u201calpha\u201d").encode(),
    "a NUL": b"\0",
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE)
def test_file_that_is_no_toml_is_a_fault_and_no_traceback(data: bytes, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "providers.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as refused:
        read_providers(path, {"ALPHA_KEY": SECRET})
    ((key, text),) = refused.value.faults
    assert key == "SMSGW_PROVIDERS_FILE"
    assert "is not TOML" in text or "is not UTF-8" in text


def test_file_may_begin_with_a_byte_order_mark_and_have_any_line_ends(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "providers.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert len(read_providers(path, {"ALPHA_KEY": SECRET})) == 2
