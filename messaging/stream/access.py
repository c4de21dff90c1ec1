"""Authentication between a process and nats-server: user, password and TLS certificates.

The password file is read again for every connection, so that a new password needs no restart.
"""

import ssl
from pathlib import Path
from typing import Any

import attrs
from nats.aio.client import Client
from nats.errors import Error as NatsError

from messaging.runtime.config import ServerSettings


@attrs.frozen
class Access:
    """What a connection authenticates with; all of it is empty for a server without authentication."""

    user: str = ""
    password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    def options(self, client: Client) -> dict[str, Any]:
        """Return nats-py's options; raises OSError (SSLError is one) when a certificate cannot be read."""
        found: dict[str, Any] = {}
        if self.ca_file:
            context = ssl.create_default_context(cafile=self.ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file)
            found["tls"] = context
        if self.user:
            # Only this user may subscribe to where its answers are sent.
            found |= {"user": self.user, "password": lambda: self._password(client), "inbox_prefix": inbox(self.user)}
        return found

    def _password(self, client: Client) -> str:
        """Read the password; raises NatsError rather than send it to a server that does not use TLS."""
        if self.ca_file and not client._server_info.get("tls_required"):  # noqa: SLF001 - nats-py does not expose it
            raise NatsError("nats: the server offers no encryption")
        return Path(self.password_file).read_text(encoding="utf-8").strip()


def inbox(user: str) -> str:
    """Name the subject prefix for answers to a user; the user's permissions name the same prefix."""
    return f"_INBOX.{user}"


def access_of(servers: ServerSettings) -> Access:
    """Take the stream's authentication from the settings."""
    return Access(
        servers.nats_user,
        servers.nats_password_file,
        servers.nats_ca_file,
        servers.nats_cert_file,
        servers.nats_key_file,
    )
