"""Python imports this module when a process starts with this folder on its path; it plants the bugs."""

import os

if os.environ.get("CHAOS_PLANT"):
    from tests.load.chaos import plants

    plants.plant(os.environ["CHAOS_PLANT"])
