"""`smsctl check-config`: every setting in force, the providers, and all faults at once."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import click

from messaging.errors import ConfigError
from messaging.runtime.config import Settings, as_text, groups, read_settings, rows
from messaging.runtime.providers_file import Provider, as_table, read_providers
from ops import discovery
from ops.commands.failure import WRONG_SETTINGS, Failure
from ops.commands.output import console, json_option, print_json, say, table

_MADE_AT_START = {"SMSGW_POD": "host name and process id"}


@click.command("check-config")
@click.option("--markdown", is_flag=True, help="Print the table of settings for docs/configuration.md.")
@json_option
def check_config(*, markdown: bool, as_json: bool) -> None:
    """Check and print the settings and the providers file, with secrets masked; exit code 78 when anything is wrong."""
    if markdown:
        for line in _markdown():
            say(line)
        return
    settings, providers, faults = _check(discovery.environment())
    if as_json:
        print_json(_document(settings, providers, faults))
    elif settings is not None:
        _print(settings, providers)
    if faults:
        raise Failure("these settings are wrong:", WRONG_SETTINGS, tuple(f"{key}: {text}" for key, text in faults))


def _check(
    environment: Mapping[str, str],
) -> tuple[Settings | None, Sequence[Provider], list[tuple[str, str]]]:
    """Read and check everything: the providers even when the settings are wrong, and the other way round."""
    faults: list[tuple[str, str]] = []
    settings: Settings | None = None
    providers: Sequence[Provider] = ()
    with _collecting(faults):
        settings = read_settings(environment)
    path = settings.servers.providers_file if settings else environment.get("SMSGW_PROVIDERS_FILE", "providers.toml")
    with _collecting(faults):
        providers = read_providers(path, environment)
    for provider in providers:
        with _collecting(faults):
            _check_provider(provider)
    return settings, providers, faults


@contextlib.contextmanager
def _collecting(faults: list[tuple[str, str]]) -> Iterator[None]:
    try:
        yield
    except ConfigError as exc:
        faults += exc.faults


def _check_provider(provider: Provider) -> None:
    from dispatcher.transport.http import open_client
    from providers.catalogue import dialect_of

    open_client(provider, dialect_of(provider))


def _document(
    settings: Settings | None, providers: Sequence[Provider], faults: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    known = rows(settings) if settings else ()
    return {
        "settings": {variable: {"value": value, "meaning": meaning} for variable, value, meaning in known},
        "providers": [as_table(provider) for provider in providers],
        "notes": list(_notes(providers)),
        "faults": [{"key": key, "text": text} for key, text in faults],
    }


def _print(settings: Settings, providers: Sequence[Provider]) -> None:
    out = console()
    out.print(table(("variable", "value", "meaning"), rows(settings)))
    hidden = {"settings", "secrets"}
    for provider in providers:
        known = as_table(provider)
        out.print(f"\nprovider {provider.name}", style="bold")
        plain = [(key, as_text(value)) for key, value in known.items() if key not in hidden]
        nested = [(f"{key}.{name}", _as_json(value)) for key in sorted(hidden) for name, value in known[key].items()]
        out.print(table(("key", "value"), plain + nested))
    for note in _notes(providers):
        say("")
        say(f"note: {note}")


def _as_json(value: Any) -> str:
    """Format a setting of an adapter: text as it is, the rest in JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _notes(providers: Sequence[Provider]) -> Iterator[str]:
    """Say what is allowed and has no effect."""
    for provider in providers:
        places = [provider.url, provider.settings.get("fields", "{sender}"), provider.settings.get("headers", "")]
        if provider.sender and provider.adapter == "http-json" and "{sender}" not in str(places):
            yield f"provider[{provider.name}].sender is used nowhere: no field, header or URL holds {{sender}}"


def _markdown() -> Iterator[str]:
    """Write the table of all settings."""
    yield "| variable | default | meaning |"
    yield "| --- | --- | --- |"
    for _, kind in groups():
        for field in attrs.fields(kind):
            variable = field.metadata["variable"]
            default = _MADE_AT_START.get(variable) or f"`{as_text(field.default)}`"
            cells = (f"`{variable}`", "" if default == "``" else default, field.metadata["meaning"])
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
