"""All claims about the stream; importing their modules puts them on the list."""

from tests.contract.stream import accepting, drawing, sharing, writing
from tests.contract.stream.world import CLAIMS

MODULES = (accepting, drawing, sharing, writing)

__all__ = ["CLAIMS", "MODULES"]
