"""How we show ourselves to the stream, and how it shows itself to us: user, password, certificates.

The password's file is read for every connection, so that a new one is taken up without a restart.
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
    """What a connection is opened with; nothing of it is needed on a server that lets everybody in."""

    user: str = ""
    password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    def options(self, client: Client) -> dict[str, Any]:
        """Give nats-py's options; raises OSError (of which SSLError is one) when a certificate cannot be read."""
        found: dict[str, Any] = {}
        if self.ca_file:
            context = ssl.create_default_context(cafile=self.ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file)
            found["tls"] = context
        if self.user:
            # Answers come where only this user may listen.
            found |= {"user": self.user, "password": lambda: self._password(client), "inbox_prefix": inbox(self.user)}
        return found

    def _password(self, client: Client) -> str:
        """Read the password; refuses to send it to a server that could not show a certificate."""
        if self.ca_file and not client._server_info.get("tls_required"):  # noqa: SLF001 - it has no name outside yet
            raise NatsError("nats: the server offers no encryption")
        return Path(self.password_file).read_text(encoding="utf-8").strip()


def inbox(user: str) -> str:
    """Where answers to a user come; its permissions name the same."""
    return f"_INBOX.{user}"


def access_of(servers: ServerSettings) -> Access:
    """Take from the settings what concerns the stream."""
    return Access(
        servers.nats_user,
        servers.nats_password_file,
        servers.nats_ca_file,
        servers.nats_cert_file,
        servers.nats_key_file,
    )
