"""nats-server's JetStream as far as this project uses it, in memory, for tests that wait for nothing.

`tests/contract/stream` holds one suite of claims that this and a real nats-server pass. What is not known here is
refused with a NotKnown: it must be tried on a real server first, and then added here and to the suite.
"""

from tests.memory_stream.connection import MemoryConnection
from tests.memory_stream.faults import Crash, NotKnown
from tests.memory_stream.stream import MemoryStream

__all__ = ["Crash", "MemoryConnection", "MemoryStream", "NotKnown"]
