"""Settings: a frozen value, read once from the environment; all faults are reported together, each with its variable.

The metadata of each field holds its variable, its meaning and the function that reads it. `smsctl check-config`, the
table in docs/configuration.md and the errors are made from them. Each group of settings has its module. For the
providers file, see `messaging.runtime.providers_file`.
"""

from messaging.runtime.config.fleet import FleetSettings
from messaging.runtime.config.gateway import GatewaySettings
from messaging.runtime.config.process import ProcessSettings
from messaging.runtime.config.reading import Settings, as_text, groups, read_settings, rows
from messaging.runtime.config.servers import ServerSettings

__all__ = [
    "FleetSettings",
    "GatewaySettings",
    "ProcessSettings",
    "ServerSettings",
    "Settings",
    "as_text",
    "groups",
    "read_settings",
    "rows",
]
