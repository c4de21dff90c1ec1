"""How much a test tries: `make unit` runs the small form in seconds, `make properties` the whole one."""

import os

DEEP = os.environ.get("HYPOTHESIS_PROFILE", "unit") != "unit"
