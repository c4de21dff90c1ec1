"""How smsctl finds the system: from the environment first, then from the file that a running `smsctl up` wrote."""

import json
import os
import pathlib

from messaging.runtime.config import Settings, read_settings
from messaging.runtime.providers_file import Provider, read_providers


def run_file(environment: dict[str, str]) -> pathlib.Path:
    """Return the path of the file to which a running `up` writes the addresses of its parts."""
    return pathlib.Path(environment.get("SMSGW_VAR") or "var") / "run.json"


def environment() -> dict[str, str]:
    """Return the environment; what it does not set is filled in from the file of a running `up`."""
    given = dict(os.environ)
    return {**_texts_in_run_file("environment", given), **given}


def simulators() -> dict[str, str]:
    """Return the URLs of a running `up`'s simulated providers by name; empty when there are none."""
    return _texts_in_run_file("simulators", dict(os.environ))


def _texts_in_run_file(field: str, given: dict[str, str]) -> dict[str, str]:
    """Read one object of the file; empty when it is not there, or when anything in it is not a text."""
    try:
        document = json.loads(run_file(given).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    found = document.get(field) if isinstance(document, dict) else None
    if not isinstance(found, dict) or not all(isinstance(value, str) and "\0" not in value for value in found.values()):
        return {}
    return found


def settings() -> Settings:
    """Read the settings; raises ConfigError."""
    return read_settings(environment())


def providers() -> tuple[Provider, ...]:
    """Read the providers file without its secrets; raises ConfigError."""
    found = environment()
    return read_providers(read_settings(found).servers.providers_file, found, keys_of=())
