"""All claims about the stream; importing their modules registers them."""

from tests.contract.stream import accepting, fetching, sharing, writing
from tests.contract.stream.world import CLAIMS

MODULES = (accepting, fetching, sharing, writing)

__all__ = ["CLAIMS", "MODULES"]
