"""How often a random or repeated test runs: a few times in `make test`, many times in `make soak`."""

import os

SOAK = os.environ.get("WHERRY_SOAK") == "1"


def rounds(few: int, many: int) -> int:
    """The number of rounds for a test that is marked ``soak``."""
    return many if SOAK else few
