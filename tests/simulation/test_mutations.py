"""The simulation sees: every sentence of the protocol, taken out, breaks a promise in some history."""

from __future__ import annotations

import re

import pytest

from tests.simulation import change_mutations, draft_mutations  # noqa: F401 (register their own)
from tests.simulation.history import run_history
from tests.simulation.mutations import MUTATIONS
from tests.simulation.promises import Broken
from tests.soak import SOAK

#: Histories that are tried before a mutation counts as unseen.
AT_MOST = 400


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_not_caught(name: str) -> None:
    """With one sentence taken out, the promise that it holds up breaks within 400 histories."""
    mutation = MUTATIONS[name]
    with mutation.apply():
        for seed in range(mutation.first, mutation.first + AT_MOST):
            try:
                run_history(seed, mutation.plan())
            except Broken as broken:
                if re.search(mutation.breaks, str(broken)):
                    return
    pytest.fail(f"no history shows {mutation.breaks!r}")


@pytest.mark.soak
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_plan_breaks_the_promises_by_itself(name: str) -> None:
    """What catches a mutation is the mutation: its plan holds with the protocol whole."""
    for seed in range(100 if SOAK else 4):
        run_history(seed, MUTATIONS[name].plan())
