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


def test_the_same_seed_gives_another_history() -> None:
    """One seed drives clock, scheduler, faults and crashes: the same seed, the same history."""
    from tests.simulation.history import History

    def changes(seed: int) -> list[object]:
        history = History(seed)
        history.run()
        return [(c.at, c.key, c.body, c.writer) for c in history.world.history]

    for seed in range(5):
        assert changes(seed) == changes(seed)
