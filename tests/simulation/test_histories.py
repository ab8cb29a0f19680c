"""The promises hold in every history."""

from __future__ import annotations

import pytest

from tests.simulation.history import run_history
from tests.soak import SOAK

HISTORIES = 100_000 if SOAK else 500
CHUNK = 2_500 if SOAK else 125


@pytest.mark.soak
@pytest.mark.parametrize("first", range(0, HISTORIES, CHUNK))
def test_a_history_breaks_a_promise(first: int) -> None:
    """Whatever is lost, late, doubled, refused or killed: what docs/promises.md says holds."""
    for seed in range(first, first + CHUNK):
        run_history(seed)
