"""An in-memory JetStream with the features that this project uses, for tests that need no real time.

It passes the same suite of claims as a real nats-server, `tests/contract/stream`. A feature that is missing here raises
NotKnown: try it on a real server first, then add it here and to the suite.
"""

from tests.memory_stream.connection import MemoryConnection
from tests.memory_stream.faults import Crash, NotKnown
from tests.memory_stream.stream import MemoryStream

__all__ = ["Crash", "MemoryConnection", "MemoryStream", "NotKnown"]
