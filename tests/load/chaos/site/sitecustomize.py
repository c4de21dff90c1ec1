"""Python imports this module by its name when a process starts with this folder on its path: it plants the bug."""

import os

if os.environ.get("CHAOS_PLANT"):
    from tests.load.chaos import plants

    plants.plant(os.environ["CHAOS_PLANT"])
