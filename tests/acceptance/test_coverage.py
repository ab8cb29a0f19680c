"""The README's table of what works of W&B's surface is what its calls give, by a real daemon."""

from __future__ import annotations

import pytest

from tests.support import coverage_table
from tests.support.coverage_table import Outcomes, render, troubles, written
from tests.support.surface import OTHER, ROWS

#: Essential or useful, and still to come.
_MISSING = set[str]()


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What came of each call."""
    return coverage_table.outcomes(tmp_path_factory.mktemp("machine"))


def test_call_of_the_surface_fails(outcomes: Outcomes) -> None:
    """Every name that W&B's programs call does what it does there, has no effect, or says "not yet"."""
    assert troubles(outcomes) == []


def test_readme_tells_something_else(outcomes: Outcomes) -> None:
    """The README's table is what the calls give, cell by cell."""
    assert written() == render(outcomes), coverage_table.REMEDY


def test_essential_name_comes_later(outcomes: Outcomes) -> None:
    """What such programs need is there, but for what is known to be missing."""
    needed = {
        row: {item.name for item in items if item.need != OTHER} for row, items in ROWS.items()
    }
    later = {
        name
        for row, names in outcomes.items()
        for name, said in names.items()
        if said == "later" and name in needed[row]
    }
    assert later == _MISSING
