"""Where smsctl finds the system: the environment first, then what a running `smsctl up` has left in its folder."""

import json
import os
import pathlib

from messaging.runtime.config import Settings, read_settings
from messaging.runtime.providers_file import Provider, read_providers


def run_file(environment: dict[str, str]) -> pathlib.Path:
    """Give the file in which a running `up` says where its parts are."""
    return pathlib.Path(environment.get("SMSGW_VAR") or "var") / "run.json"


def environment() -> dict[str, str]:
    """Give the environment, completed by what a running `up` says."""
    given = dict(os.environ)
    try:
        found = json.loads(run_file(given).read_text())["environment"]
    except (OSError, ValueError, KeyError):
        return given
    return {**found, **given}


def simulators() -> dict[str, str]:
    """Give the URLs of a running `up`'s simulated providers; empty when there are none."""
    try:
        found: dict[str, str] = json.loads(run_file(dict(os.environ)).read_text())["simulators"]
    except (OSError, ValueError, KeyError):
        return {}
    return found


def settings() -> Settings:
    """Read the settings; raises ConfigError."""
    return read_settings(environment())


def providers() -> tuple[Provider, ...]:
    """Read the providers file without keys; raises ConfigError."""
    found = environment()
    return read_providers(read_settings(found).servers.providers_file, found, keys_of=())
