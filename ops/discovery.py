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
    try:
        found = json.loads(run_file(given).read_text())["environment"]
    except (OSError, ValueError, KeyError):
        return given
    return {**found, **given}


def simulators() -> dict[str, str]:
    """Return the URLs of a running `up`'s simulated providers by name; empty when there are none."""
    try:
        found: dict[str, str] = json.loads(run_file(dict(os.environ)).read_text())["simulators"]
    except (OSError, ValueError, KeyError):
        return {}
    return found


def settings() -> Settings:
    """Read the settings; raises ConfigError."""
    return read_settings(environment())


def providers() -> tuple[Provider, ...]:
    """Read the providers file without its secrets; raises ConfigError."""
    found = environment()
    return read_providers(read_settings(found).servers.providers_file, found, keys_of=())
