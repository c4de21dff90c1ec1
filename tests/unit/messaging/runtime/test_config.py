import pathlib
import re

import attrs
import pytest

from messaging.errors import ConfigError
from messaging.runtime import config
from messaging.runtime.config import Settings, read_settings, rows
from messaging.runtime.secret import DATABASE_SCHEMES, Secret, Url, mask_url


def faults_of(environment: dict[str, str]) -> dict[str, str]:
    with pytest.raises(ConfigError) as refused:
        read_settings(environment)
    return dict(refused.value.faults)


FIELDS = [field for _, kind in config.groups() for field in attrs.fields(kind)]
BY_VARIABLE = {field.metadata["variable"]: field for field in FIELDS}


def test_empty_environment_gives_the_defaults() -> None:
    assert read_settings({}) == Settings()
    assert read_settings({"HOME": "/root", "SMSGW_LISTEN": ""}) == Settings()


def test_every_setting_has_a_variable_of_its_own_and_says_what_it_means() -> None:
    assert len(BY_VARIABLE) == len(FIELDS)
    for variable, field in BY_VARIABLE.items():
        assert re.fullmatch(r"SMSGW_[A-Z0-9_]+", variable)
        assert len(field.metadata["meaning"]) > 5, variable


def test_every_printed_default_reads_back_as_itself() -> None:
    """What `check-config` shows can be put into the environment; a secret stays hidden, so it is left out."""
    shown = {variable: value for variable, value, _ in rows(Settings())}
    assert set(shown) == set(BY_VARIABLE)
    open_ones = {name: text for name, text in shown.items() if not isinstance(BY_VARIABLE[name].default, Secret)}
    assert read_settings(open_ones) == Settings()


def test_settings_are_read_and_cannot_be_changed() -> None:
    settings = read_settings(
        {
            "SMSGW_RETRY_DELAYS_S": "1, 2.5,30",
            "SMSGW_DEFAULT_REGION": "gh",
            "SMSGW_STRICT_NUMBERS": "TRUE",
            "SMSGW_REPLICAS": " 3 ",
        }
    )
    assert settings.fleet.retry_delays_s == (1.0, 2.5, 30.0)
    assert (settings.gateway.default_region, settings.gateway.strict_numbers) == ("GH", True)
    assert settings.servers.replicas == 3
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        settings.fleet.rate_per_s = 1  # type: ignore[misc]


WRONG = {
    "SMSGW_REPLICAS": "0",
    "SMSGW_EVENT_DAYS": "nan",
    "SMSGW_ACCEPT_MAX_BYTES": "1.5",
    "SMSGW_DEFAULT_REGION": "Ghana",
    "SMSGW_STRICT_NUMBERS": "yes",
    "SMSGW_IDEMPOTENCY_WINDOW_S": "inf",
    "SMSGW_STORAGE_FILL": "80%",
    "SMSGW_FLEET_RATE_PER_S": "1e9",
    "SMSGW_WINDOW_S": "0.99",
    "SMSGW_RETRY_DELAYS_S": "30,-1",
    "SMSGW_AMBIGUOUS_OTP": "guess",
    "SMSGW_POD": "a b",
    "SMSGW_LOG_LEVEL": "INFO",
    "SMSGW_TRACE_RATIO": "2",
    "SMSGW_LOG_LEVLE": "info",
    "SMSGW_": "x",
}


def test_all_faults_are_reported_at_once_each_with_its_key() -> None:
    faults = faults_of(WRONG)
    assert set(faults) == set(WRONG)
    assert all(faults.values())


@pytest.mark.parametrize("variable", sorted(set(WRONG) & set(BY_VARIABLE)))
def test_each_of_them_is_a_fault_alone(variable: str) -> None:
    assert set(faults_of({variable: WRONG[variable]})) == {variable}


PORTS = {
    "SMSGW_LISTEN": ["h:{}", "0.0.0.0:{}", "[::]:{}"],
    "SMSGW_HEALTH_LISTEN": ["0.0.0.0:{}"],
    "SMSGW_OTLP_ENDPOINT": ["http://h:{}", "h:{}"],
    "SMSGW_NATS_URL": ["nats://h:{}", "nats://u:p@h:{}", "nats://a:4222,nats://b:{}", "h:{}", "tls://[::1]:{}"],
    "SMSGW_DATABASE_URL": ["postgresql://u:hush@h:{}/x", "postgresql://a:1,b:{}/x", "postgresql+asyncpg://u@h:{}"],
}
PLACES = [(variable, text) for variable, texts in PORTS.items() for text in texts]


@pytest.mark.parametrize(("variable", "text"), PLACES)
@pytest.mark.parametrize("port", ["65536", "99999999999", "x", "-1", "1:2", "é", "٣"])
def test_port_that_no_host_can_have_is_a_fault(variable: str, text: str, port: str) -> None:
    faults = faults_of({variable: text.format(port)})
    assert set(faults) == {variable}
    assert "port" in faults[variable]
    assert "hush" not in faults[variable]


@pytest.mark.parametrize(("variable", "text"), PLACES)
@pytest.mark.parametrize("port", ["0", "4222", "65535"])
def test_port_that_a_host_can_have_is_taken(variable: str, text: str, port: str) -> None:
    read_settings({variable: text.format(port)})


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("SMSGW_LISTEN", "unix:/run/sms:gateway.sock"),
        ("SMSGW_LISTEN", "localhost"),
        ("SMSGW_NATS_URL", "nats://a,nats://b"),
        ("SMSGW_NATS_URL", "nats://user:pa%3Ass@h"),
        ("SMSGW_DATABASE_URL", "postgresql:///x?host=/run/pg:1"),
    ],
)
def test_address_without_a_port_is_taken(variable: str, text: str) -> None:
    read_settings({variable: text})


def test_unknown_name_is_a_fault_that_names_the_one_that_was_meant() -> None:
    assert "did you mean SMSGW_LISTEN?" in faults_of({"SMSGW_LISTN": "1"})["SMSGW_LISTN"]


def test_text_in_the_place_of_a_number_is_said_in_words() -> None:
    assert faults_of({"SMSGW_REPLICAS": "x"})["SMSGW_REPLICAS"] == "must be a whole number"


@pytest.mark.parametrize(
    ("environment", "blamed"),
    [
        ({"SMSGW_LEASE_S": "2.5", "SMSGW_RENEW_S": "1.3"}, "SMSGW_RENEW_S"),
        ({"SMSGW_LEASE_S": "0.9"}, "SMSGW_RENEW_S"),
        ({"SMSGW_PUBLISH_TIMEOUT_S": "9", "SMSGW_ACCEPT_BUDGET_S": "8"}, "SMSGW_PUBLISH_TIMEOUT_S"),
        ({"SMSGW_NATS_USER": "gateway"}, "SMSGW_NATS_USER"),
        ({"SMSGW_NATS_PASSWORD_FILE": __file__}, "SMSGW_NATS_USER"),
        ({"SMSGW_NATS_CERT_FILE": __file__}, "SMSGW_NATS_CERT_FILE"),
    ],
)
def test_contradiction_between_two_settings_is_a_fault(environment: dict[str, str], blamed: str) -> None:
    assert set(faults_of(environment)) == {blamed}


@pytest.mark.parametrize("scheme", DATABASE_SCHEMES)
def test_every_scheme_of_the_history_is_taken(scheme: str) -> None:
    url = f"{scheme}u:{PASSWORD}@h/d"
    assert read_settings({"SMSGW_DATABASE_URL": url}).servers.database.reveal() == url


@pytest.mark.parametrize("url", ["mysql://root:{}@h/d", "postgresql+psycopg://u:{}@h/d", "u:{}@h/d", "{}"])
def test_another_database_is_a_fault_that_names_the_schemes_and_not_the_password(url: str) -> None:
    faults = faults_of({"SMSGW_DATABASE_URL": url.format(PASSWORD)})
    assert set(faults) == {"SMSGW_DATABASE_URL"}
    assert all(scheme in faults["SMSGW_DATABASE_URL"] for scheme in DATABASE_SCHEMES)
    assert PASSWORD not in str(faults)


# Secrets


PASSWORD = "hunter2"


def test_a_secret_may_stand_in_a_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "url"
    path.write_text(f"postgresql://u:{PASSWORD}@db/sms\n")
    settings = read_settings({"SMSGW_DATABASE_URL_FILE": str(path)})
    assert settings.servers.database == Url(f"postgresql://u:{PASSWORD}@db/sms")
    assert PASSWORD not in repr(settings)


def test_what_is_no_secret_stands_in_no_file(tmp_path: pathlib.Path) -> None:
    assert "no setting has this name" in faults_of({"SMSGW_LISTEN_FILE": "x"})["SMSGW_LISTEN_FILE"]


@pytest.mark.parametrize("variable", ["SMSGW_DATABASE_URL", "SMSGW_NATS_URL", "SMSGW_ID_KEY"])
def test_a_file_that_is_missing_or_one_too_many_is_a_fault(variable: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "secret"
    assert "cannot be read" in faults_of({f"{variable}_FILE": str(path)})[variable]
    path.write_text(PASSWORD)
    assert "set only one of them" in faults_of({f"{variable}_FILE": str(path), variable: PASSWORD})[variable]
    path.write_bytes(b"\xff")
    assert "not UTF-8" in faults_of({f"{variable}_FILE": str(path)})[variable]


@pytest.mark.parametrize("variable", ["SMSGW_NATS_PASSWORD_FILE", "SMSGW_NATS_CA_FILE"])
def test_a_file_that_is_named_must_be_readable(variable: str) -> None:
    assert "cannot be read" in faults_of({variable: "/nowhere/at/all"})[variable]


URLS = [
    f"nats://user:{PASSWORD}@one:4222",
    f"nats://user:{PASSWORD}@one:4222,nats://user:{PASSWORD}@two:4222",
    f"nats://user:{PASSWORD}@one:4222, nats://user:{PASSWORD}@two:4222,nats://three:4222",
    f"user:{PASSWORD}@one:4222,user:{PASSWORD}@two:4222",
    f"nats://{PASSWORD}@one:4222",  # a token
    f"nats://{PASSWORD}@one:4222,{PASSWORD}@two:4222",
    f"postgresql://smsgw:{PASSWORD}@db:5432/smsgw",
    f"postgresql://smsgw:a@{PASSWORD}@db/smsgw",
    f"postgresql://smsgw:a/{PASSWORD}@db/smsgw",
    f"postgresql://smsgw:a,{PASSWORD}@db/smsgw",
    f"postgresql://db/smsgw?user=x&password={PASSWORD}&sslmode=require",
    f"postgresql://db/smsgw?password={PASSWORD}",
]


@pytest.mark.parametrize("url", URLS)
def test_password_of_a_url_is_never_printed(url: str) -> None:
    for shown in (mask_url(url), repr(Url(url)), str(Url(url)), f"{Url(url)}", config.as_text(Url(url))):
        assert PASSWORD not in shown
        assert "****" in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://one:4222,nats://two:4222", "nats://one:4222,nats://two:4222"),
        ("nats://u:p@one:4222,nats://two:4222", "nats://u:****@one:4222,nats://two:4222"),
        ("postgresql://smsgw@127.0.0.1:5432/smsgw", "postgresql://smsgw@127.0.0.1:5432/smsgw"),
        ("postgresql://smsgw:p@db:5432/smsgw", "postgresql://smsgw:****@db:5432/smsgw"),
        ("", ""),
    ],
)
def test_rest_of_a_url_stays_readable(url: str, shown: str) -> None:
    assert mask_url(url) == shown


def test_secrets_are_masked_wherever_settings_are_shown() -> None:
    settings = read_settings(
        {"SMSGW_ID_KEY": PASSWORD, "SMSGW_NATS_URL": URLS[1], "SMSGW_DATABASE_URL": f"postgresql://u:{PASSWORD}@h/d"}
    )
    shown = "\n".join(
        [repr(settings), str(settings), f"{settings}", repr(attrs.asdict(settings)), *map(str, rows(settings))]
    )
    assert PASSWORD not in shown
    assert settings.gateway.id_key.reveal() == PASSWORD


def test_fault_never_holds_the_value_of_a_secret() -> None:
    faults = faults_of({"SMSGW_ID_KEY": PASSWORD, "SMSGW_REPLICAS": "x"})
    assert PASSWORD not in str(faults)


def test_secret_is_equal_by_value_and_shows_whether_it_is_set() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert (repr(Secret("")), repr(Secret("a"))) == ("(unset)", "****")


def test_only_the_configuration_reads_the_environment() -> None:
    """Settings are a value, read once: nobody else may ask the environment behind its back."""
    readers = {
        str(path)
        for folder in ("messaging", "providers", "gateway_grpc", "dispatcher")
        for path in pathlib.Path(config.__file__).parent.parent.joinpath(folder).rglob("*.py")
        if re.search(r"os\.(environ|getenv)", path.read_text())
    }
    assert {pathlib.Path(path).name for path in readers} <= {"process.py", "providers_file.py", "env.py"}


_UNSEEN = ["h\x07", "h\n/x", "h\0", "h\u202e", "\ud800", "h/\x7f", "h\u200b:80"]
_BROKEN = ["[::1", "u:hush@[::1/", "h:99999", "h:8x"]
_PLACES = {
    "SMSGW_NATS_URL": "nats://{}",
    "SMSGW_DATABASE_URL": "postgresql://{}",
    "SMSGW_OTLP_ENDPOINT": "http://{}",
    "SMSGW_LISTEN": "{}",
    "SMSGW_HEALTH_LISTEN": "{}",
}


@pytest.mark.parametrize("odd", [*_UNSEEN, *_BROKEN], ids=ascii)
@pytest.mark.parametrize("key", _PLACES)
def test_address_that_no_host_can_have_is_a_fault_that_repeats_nothing_of_it(key: str, odd: str) -> None:
    [(name, told)] = faults_of({key: _PLACES[key].format(odd)}).items()
    assert name == key
    assert told.isprintable()
    assert "hush" not in told
